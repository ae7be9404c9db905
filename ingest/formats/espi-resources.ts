/**
 * The resources of a Green Button feed and how they are joined: by the links of their entries, not by nesting
 * (NAESB REQ.21, ESPI). Hrefs are compared by their path alone, in any case; whatever is left out is concluded where
 * only one conclusion is possible.
 */

/** A ReadingType as its codes stand in the file; -1 for what it does not state. */
export interface EspiType {
  accumulation: number
  commodity: number
  defaultQuality: number
  flow: number
  /** Seconds; 0: not stated. */
  intervalS: number
  multiplier: number
  uom: number
  /** Time of use, critical peak or tier: a part of the total, kept apart from it. */
  bucket: number
}

/** Links of an entry; plain data, since an entry of a ReadingType may stand in another part of the body. */
export interface EspiLinks {
  self: string
  up: string
  related: string[]
}

export interface EspiState {
  usagePoints: EspiLinks[]
  meterReadings: (EspiLinks & { type: EspiType | null })[]
  types: { self: string, type: EspiType }[]
}

export const noLinks = (): EspiLinks => ({ self: '', up: '', related: [] })

/** What the file says of itself, looked up by its links. */
export class EspiResources {
  readonly state: EspiState
  readonly #types = new Map<string, EspiType>()
  readonly #readings = new Map<string, EspiState['meterReadings'][number]>()

  constructor(state: EspiState | undefined) {
    this.state = state ?? { usagePoints: [], meterReadings: [], types: [] }
    for (const { self, type } of this.state.types) this.#types.set(self, type)
    for (const reading of this.state.meterReadings) this.#keepReading(reading)
  }

  addType(links: EspiLinks, type: EspiType): void {
    const self = pathOf(links.self)
    this.state.types.push({ self, type })
    if (self !== '') this.#types.set(self, type)
  }

  addReading(links: EspiLinks, type: EspiType | null): void {
    const reading = { ...links, type }
    this.state.meterReadings.push(reading)
    this.#keepReading(reading)
  }

  addUsagePoint(links: EspiLinks): void {
    this.state.usagePoints.push(links)
  }

  /** ReadingType of a block's entry; undefined where the links lead to none. */
  typeOf(links: EspiLinks): EspiType | undefined {
    const reading = this.#readingOf(links)
    if (reading?.type != null) return reading.type
    for (const href of [...links.related, ...(reading?.related ?? [])]) {
      const type = this.#typeAt(pathOf(href))
      if (type !== undefined) return type
    }
    return undefined
  }

  /** The only ReadingType there is. */
  onlyType(): EspiType | undefined {
    return this.state.types.length === 1 ? this.state.types[0].type : undefined
  }

  /** Meter of a block's entry: its usage point; undefined where nothing names one. */
  meterOf(links: EspiLinks): string | undefined {
    const reading = this.#readingOf(links)
    for (const { self, up, related } of reading === undefined ? [links] : [links, reading]) {
      for (const href of [self, up, ...related]) {
        const meter = usagePointOf(href)
        if (meter !== undefined) return meter
      }
    }
    const points = this.state.usagePoints
    const collections = new Set([links, ...(reading === undefined ? [] : [reading])]
      .flatMap(({ self, up }) => [pathOf(self), pathOf(up)]).filter(path => path !== ''))
    const owner = points.find(({ related }) => related.some(href => collections.has(pathOf(href))))
    const point = owner ?? (points.length === 1 ? points[0] : undefined)
    if (point === undefined) return undefined
    return usagePointOf(point.self) ?? (point.self === '' ? undefined : segmentsOf(point.self).join('/'))
  }

  #keepReading(reading: EspiState['meterReadings'][number]): void {
    const self = pathOf(reading.self)
    if (self !== '') this.#readings.set(self, reading)
    for (const href of reading.related) {
      const path = pathOf(href)
      if (path.includes('intervalblock')) this.#readings.set(path, reading)
    }
  }

  #readingOf({ self, up, related }: EspiLinks): EspiState['meterReadings'][number] | undefined {
    for (const href of [up, self, ...related]) {
      const path = pathOf(href)
      const direct = this.#readings.get(path)
      if (direct !== undefined) return direct
      const within = /^.*(?:^|\/)meterreading\/[^/]+/.exec(path)?.[0]
      const reading = within === undefined ? undefined : this.#readings.get(within)
      if (reading !== undefined) return reading
    }
    return undefined
  }

  /** A ReadingType at a path, or the only one whose path ends alike: one of the two may be relative. */
  #typeAt(path: string): EspiType | undefined {
    const type = this.#types.get(path)
    if (type !== undefined) return type
    const tail = /(?:^|\/)(readingtype\/[^/]+)$/.exec(path)?.[1]
    if (tail === undefined) return undefined
    const alike = this.state.types.filter(({ self }) => self === tail || self.endsWith(`/${tail}`))
    return alike.length === 1 ? alike[0].type : undefined
  }
}

/** Path of an href for comparison: without scheme, host, query and slashes at its ends, in lower case. */
function pathOf(href: string): string {
  return segmentsOf(href).join('/').toLowerCase()
}

function segmentsOf(href: string): string[] {
  return href.trim().replace(/^[a-z][a-z0-9+.-]*:\/\/[^/]*/i, '').replace(/[?#].*$/, '').split('/')
    .filter(segment => segment !== '')
}

/**
 * Meter id of an href at or below a UsagePoint: the usage point's id, with the path down from its customer where it
 * stands below one, since ids such as 01 are a customer's own. A Subscription, which a customer gives and takes back,
 * is no part of it.
 */
export function usagePointOf(href: string): string | undefined {
  const segments = segmentsOf(href)
  const at = segments.findIndex(segment => segment.toLowerCase() === 'usagepoint')
  if (at < 0 || at + 1 >= segments.length) return undefined
  const isOwn = at < 2 || segments[at - 1].toLowerCase() === 'resource'
    || ['subscription', 'bulk'].includes(segments[at - 2].toLowerCase())
  return segments.slice(isOwn ? at + 1 : at - 2, at + 2).map(unescaped).join('/')
}

function unescaped(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
