import fc from 'fast-check'
import { getZone, type Zone } from '../../engine/time/zone.js'
import type { PlainBlock } from '../settling.js'
import type { QualityName } from '../../engine/read-batch.js'

/** Zones with days of every length, and hours that begin at any quarter of the hour. */
export const ZONES = ['America/Chicago', 'Europe/Berlin', 'Australia/Lord_Howe', 'Asia/Kolkata', 'Asia/Kathmandu',
  'America/St_Johns', 'Africa/Casablanca', 'Pacific/Chatham', 'America/Havana', 'Asia/Beirut', 'Etc/GMT-1', 'America/Santiago',
  ...Intl.supportedValuesOf('timeZone')]

const FIRST_DAY = 20_454 // 2026-01-01
const DAYS = 315

/** Local days of 2026, up to November, that the clocks make longer or shorter. */
export function unevenDays(zone: Zone): number[] {
  const days: number[] = []
  for (let d = FIRST_DAY; d < FIRST_DAY + DAYS; d++) if (zone.dayStart(d + 1) - zone.dayStart(d) !== 86_400) days.push(d)
  return days
}

export interface ChannelPlan {
  meter: number
  intervalS: number
  flow: 'delivered' | 'received' | 'net'
  /** Seconds between the UTC grid and this channel's. */
  phase: number
}

/** Some reads of a channel, as their source stated them at one time: a slot counted from the first day's start. */
export interface Statement {
  channel: number
  slot: number
  values: (number | null)[]
  quality: QualityName[]
  version: number
  exponent: number
}

export interface Scenario {
  zone: string
  /** Local day around which all happens. */
  day: number
  meters: number
  channels: ChannelPlan[]
  statements: Statement[]
}

const QUALITIES: QualityName[] = ['actual', 'actual', 'actual', 'estimated', 'validated', 'questionable', 'edited']

const zoneAndDay = fc.constantFrom(...ZONES).chain((zone) => {
  const uneven = unevenDays(getZone(zone))
  const dull = fc.integer({ min: FIRST_DAY + 2, max: FIRST_DAY + DAYS })
  return fc.record({ zone: fc.constant(zone), day: uneven.length === 0 ? dull : fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...uneven) }, dull) })
})

const channel = fc.record({
  meter: fc.nat(1), intervalS: fc.constantFrom(900, 900, 1800, 3600, 86_400, 300),
  flow: fc.constantFrom('delivered' as const, 'delivered' as const, 'received' as const, 'net' as const), local: fc.boolean(),
})

const statement = fc.record({
  channel: fc.nat(3), at: fc.nat(999), length: fc.integer({ min: 1, max: 40 }), version: fc.integer({ min: 1, max: 4 }),
  exponent: fc.constantFrom(-3, -3, -3, -2, 0, -5, -6), seed: fc.nat(), gaps: fc.boolean(), mixed: fc.integer({ min: 0, max: 3 }),
})

/** Statements about one or two meters within three local days, most of them around a change of the clocks. */
export const scenarios: fc.Arbitrary<Scenario> = fc.record({
  place: zoneAndDay, channels: fc.array(channel, { minLength: 1, maxLength: 4 }),
  statements: fc.array(statement, { minLength: 2, maxLength: 8 }),
}).map(({ place: { zone: name, day }, channels, statements }) => {
  const zone = getZone(name)
  const days = [zone.dayStart(day - 1), zone.dayStart(day), zone.dayStart(day + 1), zone.dayStart(day + 2)]
  return {
    zone: name, day, meters: 2,
    channels: channels.map(({ local, ...c }) => {
      // A local grid only where it is one all three days: reads pushed after the clocks moved by half an hour have another.
      const phases = days.map((s) => s % c.intervalS)
      return { ...c, phase: local && phases.every((p) => p === phases[0]) ? phases[0] : 0 }
    }),
    statements: statements.map((s) => {
      const c = s.channel % channels.length
      const { intervalS, flow } = channels[c]
      const daily = intervalS === 86_400
      const slots = daily ? 3 : Math.floor((days[3] - days[0]) / intervalS) - 1
      const slot = Math.floor(s.at / 1000 * slots)
      const count = Math.min(s.length, slots - slot)
      const draw = random(s.seed)
      const values = Array.from({ length: count }, () => s.gaps && draw(4) === 0 ? null : draw(4) * 10 ** draw(3) * (draw(flow === 'net' ? 2 : 40) === 0 ? -1 : 1))
      const one = QUALITIES[draw(QUALITIES.length)]
      const quality = Array.from({ length: count }, () => s.mixed > 0 ? one : QUALITIES[draw(QUALITIES.length)])
      return { channel: c, slot, values, quality, version: s.version, exponent: s.exponent }
    }),
  }
})

/** A statement as a block; `from` and `to` cut a piece of it out. */
export function blockOf(s: Scenario, statement: Statement, meters: readonly string[], from = 0, to = statement.values.length): PlainBlock {
  const zone = getZone(s.zone)
  const { intervalS, flow, meter, phase } = s.channels[statement.channel]
  const first = zone.dayStart(s.day - 1)
  const grid = Math.ceil((first - phase) / intervalS) * intervalS + phase
  const quality = statement.quality.slice(from, to)
  return {
    meter: meters[meter], intervalS, flow, values: statement.values.slice(from, to), exponent: statement.exponent,
    start: intervalS === 86_400 ? zone.dayStart(s.day - 1 + statement.slot + from) : grid + (statement.slot + from) * intervalS,
    version: 1_700_000_000_000_000 + statement.version, quality: quality.every((q) => q === quality[0]) ? quality[0] : quality,
  }
}

/** A small reproducible generator: a whole number below n. */
export function random(seed: number): (n: number) => number {
  let state = seed >>> 0
  return (n) => {
    state = state + 0x6d2b79f5 | 0
    let t = Math.imul(state ^ state >>> 15, 1 | state)
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t
    return Math.floor(((t ^ t >>> 14) >>> 0) / 4_294_967_296 * n)
  }
}

/** The scenario's blocks in another order, some of them cut in two and some said twice. */
export function arranged(s: Scenario, meters: readonly string[], seed: number): PlainBlock[] {
  const draw = random(seed)
  const blocks = s.statements.flatMap((statement) => {
    const n = statement.values.length
    const cut = draw(3) === 0 ? draw(n) : 0
    const pieces = cut === 0 ? [blockOf(s, statement, meters)] : [blockOf(s, statement, meters, 0, cut), blockOf(s, statement, meters, cut)]
    return draw(4) === 0 ? [...pieces, blockOf(s, statement, meters)] : pieces
  })
  for (let i = blocks.length - 1; i > 0; i--) {
    const j = draw(i + 1);
    [blocks[i], blocks[j]] = [blocks[j], blocks[i]]
  }
  return blocks
}

/** Cuts a list into runs of 1 to `most`. */
export function runs<T>(items: readonly T[], most: number, draw: (n: number) => number): T[][] {
  const out: T[][] = []
  for (let i = 0; i < items.length;) {
    const n = 1 + draw(most)
    out.push(items.slice(i, i + n))
    i += n
  }
  return out
}
