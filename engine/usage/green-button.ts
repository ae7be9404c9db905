import { createHash } from 'node:crypto'
import { Flow, Quality, QUALITY_MASK, type FlowCode } from '../read-batch.js'
import { civilOfDay, DAY_S, dayOfCivil, monthLength } from '../time/civil.js'
import type { Zone } from '../time/zone.js'
import type { ExactSum } from './decimal.js'
import type { StepSeries } from './usage.js'

/**
 * Usage as a Green Button file: an Atom feed of ESPI resources (NAESB REQ.21, espi.xsd 4.0), one usage point per meter,
 * one MeterReading with its ReadingType per flow, one IntervalBlock per local day. Values are whole numbers of Wh, or of
 * as small a part of it as the reads need, so that nothing is rounded; reads that are not there are left out.
 */

/** Codes of flowDirection. */
const DIRECTIONS: Readonly<Record<FlowCode, number>> = { [Flow.delivered]: 1, [Flow.received]: 19, [Flow.net]: 4 }
/** QualityOfReading of each quality: raw, estimated, questionable, validated, manually edited. */
const QUALITIES: Readonly<Record<number, number>> = {
  [Quality.actual]: 14, [Quality.estimated]: 8, [Quality.questionable]: 10, [Quality.validated]: 17, [Quality.edited]: 7,
}
const RAW = QUALITIES[Quality.actual]
const NO_RULE = 'FFFFFFFF'

interface Feed {
  /** Whose file it is: the account's or the meter's public id. */
  subscription: string
  zone: Zone
  fromS: number
  toS: number
  /** Newest change of a value that stood, microseconds; 0 for none. */
  restatedAtUs: number
}

/** The file of series measured by the meter; those that were computed from others are left out. */
export function greenButton(series: readonly StepSeries[], feed: Feed): string {
  const root = `/espi/1_1/resource/Subscription/${encodeURIComponent(feed.subscription)}`
  const clock = '/espi/1_1/resource/LocalTimeParameters/1'
  const entries: string[] = []
  const own = series.filter((s) => !s.derived)
  for (const meter of new Set(own.map((s) => s.meter ?? feed.subscription))) {
    const point = `${root}/UsagePoint/${encodeURIComponent(meter)}`
    entries.push(entry(feed, point, meter, [`${point}/MeterReading`, clock],
      '<UsagePoint xmlns="http://naesb.org/espi"><ServiceCategory><kind>0</kind></ServiceCategory></UsagePoint>'))
    for (const s of own) if ((s.meter ?? feed.subscription) === meter) entries.push(...readingOf(s, point, feed))
  }
  entries.push(entry(feed, clock, 'Local time', [], localTime(feed)))
  const updated = updatedText(feed, feed.toS)
  return '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n'
    + `<id>${urn(`${root}?${feed.fromS}-${feed.toS}`)}</id><title>Green Button usage feed</title><updated>${updated}</updated>`
    + `<link rel="self" href="${text(root)}"/>\n${entries.join('')}</feed>\n`
}

function* readingOf(s: StepSeries, point: string, feed: Feed): Generator<string> {
  const reading = `${point}/MeterReading/${DIRECTIONS[s.flow]}-${s.steps.stepS}`
  const multiplier = multiplierOf(s.steps.sums)
  const type = `/espi/1_1/resource/ReadingType/${DIRECTIONS[s.flow]}-${s.steps.stepS}-${-multiplier}`
  yield entry(feed, reading, 'Meter reading', [type, `${reading}/IntervalBlock`], '<MeterReading xmlns="http://naesb.org/espi"/>')
  yield entry(feed, type, 'Energy', [], '<ReadingType xmlns="http://naesb.org/espi"><accumulationBehaviour>4</accumulationBehaviour>'
    + `<commodity>1</commodity><dataQualifier>12</dataQualifier><defaultQuality>${RAW}</defaultQuality>`
    + `<flowDirection>${DIRECTIONS[s.flow]}</flowDirection><intervalLength>${s.steps.stepS}</intervalLength><kind>12</kind>`
    + `<phase>769</phase><powerOfTenMultiplier>${multiplier}</powerOfTenMultiplier><timeAttribute>0</timeAttribute>`
    + '<uom>72</uom></ReadingType>')
  yield* blocksOf(s, reading, multiplier, feed)
}

function* blocksOf({ steps }: StepSeries, reading: string, multiplier: number, feed: Feed): Generator<string> {
  const { zone } = feed
  let day = NaN
  let reads: string[] = []
  let endS = 0
  const block = (): string => {
    const startS = zone.dayStart(day)
    return entry(feed, `${reading}/IntervalBlock/${day}`, '', [], '<IntervalBlock xmlns="http://naesb.org/espi">'
      + `<interval><duration>${zone.dayStart(day + 1) - startS}</duration><start>${startS}</start></interval>\n`
      + `${reads.join('')}</IntervalBlock>`, endS)
  }
  for (const [i, sum] of steps.sums.entries()) {
    if (sum === null) continue
    const startS = steps.starts[i]
    if (zone.dayOf(startS) !== day) {
      if (reads.length > 0) yield block()
      day = zone.dayOf(startS)
      reads = []
    }
    const durationS = steps.stepS === DAY_S ? zone.dayStart(day + 1) - startS : steps.stepS
    endS = startS + durationS
    const quality = QUALITIES[steps.lanes[i] & QUALITY_MASK] ?? RAW
    reads.push(`<IntervalReading>${quality === RAW ? '' : `<ReadingQuality><quality>${quality}</quality></ReadingQuality>`}`
      + `<timePeriod><duration>${durationS}</duration><start>${startS}</start></timePeriod><value>${whole(sum, multiplier)}</value></IntervalReading>\n`)
  }
  if (reads.length > 0) yield block()
}

/** powerOfTenMultiplier, one of 0, -3 and -6, with which every sum is a whole number of Wh. */
function multiplierOf(sums: readonly (ExactSum | null)[]): number {
  let decimals = 3
  for (const sum of sums) {
    if (sum === null) continue
    const digits = /\.(\d*?)0*$/.exec(sum.text())?.[1].length ?? 0
    if (digits > decimals) decimals = digits
  }
  return decimals <= 3 ? 0 : decimals <= 6 ? -3 : -6
}

/** The sum in units of 10^multiplier Wh. */
function whole(sum: ExactSum, multiplier: number): string {
  const [, sign, before, after = ''] = /^(-?)(\d+)(?:\.(\d*))?$/.exec(sum.text()) ?? ['', '', '0', '']
  const digits = `${before}${after.slice(0, 3 - multiplier).padEnd(3 - multiplier, '0')}`.replace(/^0+(?=\d)/, '')
  return digits === '0' ? '0' : `${sign}${digits}`
}

/** An entry; its `up` is the collection that its path stands in. */
function entry(feed: Feed, path: string, title: string, related: readonly string[], content: string, changedS = feed.toS): string {
  const updated = updatedText(feed, changedS)
  return `<entry><id>${urn(path)}</id><link rel="self" href="${text(path)}"/><link rel="up" href="${text(path.slice(0, path.lastIndexOf('/')))}"/>`
    + related.map((href) => `<link rel="related" href="${text(href)}"/>`).join('')
    + `<title>${text(title)}</title><content>${content}</content><published>${updated}</published><updated>${updated}</updated></entry>\n`
}

/** When what is told last changed: when it was restated, or when its last interval ended. */
function updatedText({ restatedAtUs }: Feed, endS: number): string {
  return new Date(Math.max(Math.floor(restatedAtUs / 1e6), endS) * 1000).toISOString().replace('.000Z', 'Z')
}

function localTime({ zone, fromS }: Feed): string {
  const { year } = civilOfDay(zone.dayOf(fromS))
  const winter = zone.offsetAt(Date.UTC(year, 0, 1, 12) / 1000)
  const summer = zone.offsetAt(Date.UTC(year, 6, 1, 12) / 1000)
  const standard = Math.min(winter, summer)
  const rules = winter === summer ? { start: NO_RULE, end: NO_RULE }
    : { start: ruleOf(zone, year, standard), end: ruleOf(zone, year, Math.max(winter, summer)) }
  return `<LocalTimeParameters xmlns="http://naesb.org/espi"><dstEndRule>${rules.end}</dstEndRule>`
    + `<dstOffset>${Math.abs(winter - summer)}</dstOffset><dstStartRule>${rules.start}</dstStartRule>`
    + `<tzOffset>${standard}</tzOffset></LocalTimeParameters>`
}

/**
 * The day of a year on which clocks leave an offset, as the bits of ESPI's DstRuleType: seconds (0-11), hour (12-16), day
 * of the week (17-19, 7 is Sunday), day of the month (20-24), which of them in the month (25-27: 2 first to 5 fourth,
 * 7 last), month (28-31).
 */
function ruleOf(zone: Zone, year: number, offset: number): string {
  for (let day = dayOfCivil(year, 1, 1); day < dayOfCivil(year + 1, 1, 1); day++) {
    const startS = zone.dayStart(day)
    if (zone.offsetAt(startS) !== offset || zone.offsetAt(zone.dayStart(day + 1)) === offset) continue
    let [low, high] = [startS, zone.dayStart(day + 1)]
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2)
      if (zone.offsetAt(middle) === offset) low = middle
      else high = middle
    }
    const wallS = high + offset - day * DAY_S
    const { month, day: monthDay } = civilOfDay(day)
    const which = monthDay + 7 > monthLength(year, month) ? 7 : Math.ceil(monthDay / 7) + 1
    const weekday = (day + 3) % 7 + 1
    const hour = Math.floor(wallS / 3600)
    const bits = month * 2 ** 28 + which * 2 ** 25 + weekday * 2 ** 17 + hour * 2 ** 12 + (wallS - hour * 3600)
    return bits.toString(16).toUpperCase().padStart(8, '0')
  }
  return NO_RULE
}

/** A UUID that the same resource always has (RFC 9562, version 8). */
function urn(path: string): string {
  const hash = createHash('sha256').update(path).digest()
  hash[6] = (hash[6] & 0x0f) | 0x80
  hash[8] = (hash[8] & 0x3f) | 0x80
  const hex = hash.toString('hex')
  return `urn:uuid:${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`
}

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\'': '&apos;' }

function text(value: string): string {
  return value.replace(/[&<>"']/g, (c) => ESCAPES[c])
}
