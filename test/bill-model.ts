import type { RateVersionRecord } from '../engine/rates/schema.js'
import type { Zone } from '../engine/time/zone.js'
import type { ModelRead } from './model.js'

/**
 * A bill, told plainly: one read at a time, in whole numbers. It shares the shape of a rate's versions and the zone's table
 * with the engine, and nothing of how bills are made there.
 */

/** A version that an account is billed by from a local day on. */
export interface PlainRate {
  readonly fromDay: number
  readonly body: RateVersionRecord
}

/** Money in billionths of a billionth of the currency. */
const UNIT = 10n ** 18n
const CENT = UNIT / 100n

const scaled = (n: number, decimals: number): bigint => BigInt(Math.round(n * 1e8)) * 10n ** BigInt(decimals - 8)
const price = (n: number): bigint => scaled(n, 9)
const money = (n: number): bigint => scaled(n, 18)
const nano = (kwh: number): bigint => scaled(kwh, 9)

/** Quotient, half away from zero. */
function halves(a: bigint, b: bigint): bigint {
  return a < 0n ? -((2n * -a + b) / (2n * b)) : (2n * a + b) / (2n * b)
}

const cents = (amount: bigint): bigint => halves(amount, CENT) * CENT

export function rateOn(rates: readonly PlainRate[], day: number): RateVersionRecord | undefined {
  return rates.filter((r) => r.fromDay <= day).toSorted((a, b) => b.fromDay - a.fromDay).at(0)?.body
}

function monthDay(day: number): string {
  return new Date(day * 86_400_000).toISOString().slice(5, 10)
}

export function seasonOn(body: RateVersionRecord, day: number): string | undefined {
  const at = monthDay(day)
  return body.seasons?.find(({ from, to }) => from <= to ? from <= at && at <= to : from <= at || at <= to)?.name
}

/** Name of the time-of-use period that a clock on the wall shows. */
function periodAtInstant(body: RateVersionRecord, s: number, zone: Zone): string {
  const wall = new Date((s + zone.offsetAt(s)) * 1000).toISOString()
  const day = wall.slice(0, 10)
  const clock = wall.slice(11, 16)
  const weekday = (['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const)[new Date(`${day}T00:00:00Z`).getUTCDay()]
  const season = body.seasons === undefined ? undefined : seasonOn(body, Date.parse(`${day}T00:00:00Z`) / 86_400_000)
  const found = body.touPeriods?.find((p) => p.windows.some((w) =>
    (w.season === undefined || w.season === season) && (w.holidays === true || body.holidays?.includes(day) !== true)
    && (w.days === undefined || w.days.includes(weekday))
    && (w.from < w.to ? w.from <= clock && clock < w.to : w.from <= clock || clock < w.to)))
  return found?.name ?? body.otherPeriod ?? 'off-peak'
}

/** The period that a read lies in, second after second; undefined where it lies in several. */
export function periodOfRead(body: RateVersionRecord, startS: number, endS: number, zone: Zone): string | undefined {
  if ((body.touPeriods ?? []).length === 0) return body.otherPeriod ?? 'off-peak'
  const known = asked.get(body) ?? new Map<string, string | undefined>()
  asked.set(body, known)
  const key = `${startS} ${endS} ${zone.name}`
  if (!known.has(key)) known.set(key, nameOver(body, startS, endS, zone))
  return known.get(key)
}

const asked = new WeakMap<RateVersionRecord, Map<string, string | undefined>>()

function nameOver(body: RateVersionRecord, startS: number, endS: number, zone: Zone): string | undefined {
  const names = new Set<string>()
  for (let s = startS; s < endS; s += 900) names.add(periodAtInstant(body, s, zone))
  return names.size === 1 ? [...names][0] : undefined
}

interface Part { from: number; to: number; body: RateVersionRecord; season: string | undefined }

/** Energy that nobody has read yet, by day and name of the time-of-use period: kWh. */
export type Expected = (day: number, body: RateVersionRecord) => ReadonlyMap<string, { delivered: number; received: number }>

/**
 * The bill of the days [from, to) in the currency, exact to the cent; undefined where it cannot be told.
 * @param reads of the period, flows 1 and 2
 * @param expected what days from `unreadFrom` on are taken to bring besides
 */
export function plainBill(
  rates: readonly PlainRate[], from: number, to: number, reads: readonly ModelRead[], zone: Zone, unreadFrom = Infinity, expected?: Expected,
): number | undefined {
  const parts: Part[] = []
  for (let day = from; day < to; day++) {
    const body = rateOn(rates, day)
    if (body === undefined) return undefined
    const season = seasonOn(body, day)
    const last = parts.at(-1)
    if (last?.body === body && last.season === season) last.to = day + 1
    else parts.push({ from: day, to: day + 1, body, season })
  }
  const lines: { kind: string; amount: bigint; body: RateVersionRecord }[] = []
  const all = BigInt(to - from)
  for (const body of new Set(parts.map((p) => p.body))) {
    const days = BigInt(parts.filter((p) => p.body === body).reduce((n, p) => n + p.to - p.from, 0))
    for (const f of body.fixed ?? []) {
      lines.push({ kind: 'fixed', body, amount: cents(f.per === 'day' ? money(f.amount) * days : halves(money(f.amount) * days, all)) })
    }
  }
  for (const part of parts) {
    const found = partLines(part, reads, zone, all, unreadFrom, expected)
    if (found === undefined) return undefined
    lines.push(...found.map((l) => ({ ...l, body: part.body })))
  }
  const taxes: bigint[] = []
  for (const body of new Set(parts.map((p) => p.body))) {
    for (const { percent, on } of body.taxes ?? []) {
      const base = lines.filter((l) => l.body === body && (on === undefined || (on as string[]).includes(l.kind))).reduce((n, l) => n + l.amount, 0n)
      taxes.push(cents(halves(base * money(percent), 100n * UNIT)))
    }
  }
  return Number([...lines.map((l) => l.amount), ...taxes].reduce((n, a) => n + a, 0n) / CENT) / 100
}

function partLines(
  { from, to, body, season }: Part, reads: readonly ModelRead[], zone: Zone, all: bigint, unreadFrom: number, expected: Expected | undefined,
): { kind: string; amount: bigint }[] | undefined {
  const days = BigInt(to - from)
  const names = [...(body.touPeriods ?? []).map((p) => p.name), body.otherPeriod ?? 'off-peak']
  const sums = new Map(names.map((name) => [name, { 1: 0n, 2: 0n, kw: 0n }]))
  const here = reads.filter((r) => r.startS >= zone.dayStart(from) && r.startS < zone.dayStart(to))
  for (const r of here) {
    const name = periodOfRead(body, r.startS, r.startS + (r.intervalS === 86_400 ? 82_800 : r.intervalS), zone)
    const sum = name === undefined ? undefined : sums.get(name)
    if (sum === undefined) return undefined
    sum[r.flow as 1 | 2] += r.nano
    const kw = halves(r.nano * 3600n, BigInt(r.intervalS))
    if (r.flow === 1 && kw > sum.kw) sum.kw = kw
  }
  const rest = new Map(names.map((name) => [name, { 1: 0, 2: 0 }]))
  for (let day = Math.max(from, unreadFrom); day < to; day++) {
    for (const [name, kwh] of expected?.(day, body) ?? []) {
      const into = rest.get(name) ?? rest.get(names.at(-1)!)!
      into[1] += kwh.delivered
      into[2] += kwh.received
    }
  }
  for (const [name, kwh] of rest) {
    sums.get(name)![1] += nano(Math.round(kwh[1] * 1000) / 1000)
    sums.get(name)![2] += nano(Math.round(kwh[2] * 1000) / 1000)
  }
  const lines: { kind: string; amount: bigint }[] = []
  const of = (touPeriod: string | undefined): { 1: bigint; 2: bigint; kw: bigint }[] =>
    names.filter((n) => touPeriod === undefined || n === touPeriod).map((n) => sums.get(n)!)
  let billed = 0n
  let left = 0n
  for (const charge of body.energy) {
    if (charge.season !== undefined && charge.season !== season) continue
    const delivered = of(charge.touPeriod).reduce((n, s) => n + s[1], 0n)
    const taken = body.netMetering?.method === 'net' ? of(charge.touPeriod).reduce((n, s) => n + s[2], 0n) : 0n
    const kwh = delivered > taken ? delivered - taken : 0n
    if (taken > delivered) left += taken - delivered
    billed += kwh
    let below = 0n
    for (const tier of charge.tiers) {
      // A bound is stated for a whole period; of a part of one it is rounded to a watt-hour.
      const bound = tier.upTo === undefined ? kwh : days === all ? nano(tier.upTo) : halves(nano(tier.upTo) * days, all * 1_000_000n) * 1_000_000n
      const upper = bound < kwh ? bound : kwh
      if (upper > below) lines.push({ kind: 'energy', amount: cents((upper - below) * price(tier.price)) })
      if (upper > below) below = upper
    }
  }
  for (const a of body.adjustments ?? []) lines.push({ kind: 'adjustment', amount: cents(billed * price(a.price)) })
  for (const charge of body.demand ?? []) {
    if (charge.season !== undefined && charge.season !== season) continue
    const kw = of(charge.touPeriod).reduce((most, s) => s.kw > most ? s.kw : most, 0n)
    lines.push({ kind: 'demand', amount: cents(halves(kw * price(charge.price) * days, all)) })
  }
  if (body.netMetering !== undefined) {
    const credited = body.netMetering.method === 'net' ? left : names.reduce((n, name) => n + sums.get(name)![2], 0n)
    lines.push({ kind: 'credit', amount: -cents(credited * price(body.netMetering.creditPrice)) })
  }
  return lines
}
