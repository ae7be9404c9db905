import { addExact, compareExact, divideExact, exactText, multiplyExact, parseExact, roundExact, subtractExact, ZERO, type Exact } from '../thresholds/exact.js'
import type { Part } from './calendar.js'
import { taxed, type RateVersionRecord } from './schema.js'

/** What a part of a period comes to in one time-of-use period. */
export interface Quantity {
  /** kWh. */
  readonly delivered: Exact
  readonly received: Exact
  /** Greatest mean power of an interval of delivered energy, kW. */
  readonly demand: Exact
}

export type LineKind = (typeof taxed)[number] | 'tax'

/** A line of a bill. amount = quantity x price, rounded half away from zero to the currency's smallest unit. */
export interface BillLine {
  readonly kind: LineKind
  readonly name: string
  readonly quantity: Exact
  /** `share`: of a billing period; `percent`. */
  readonly unit: 'kWh' | 'kW' | 'day' | 'share' | 'percent'
  readonly price: Exact
  readonly amount: Exact
  /** Of which version: the rate's public id and first day. */
  readonly part: Part
}

export interface Bill {
  readonly amount: Exact
  readonly lines: readonly BillLine[]
}

const integer = (n: number): Exact => ({ mantissa: BigInt(n), exponent: 0 })
const decimal = (n: number): Exact => parseExact(String(n))

/** Decimals of a currency's smallest unit, negative: -2 for USD, 0 for JPY. */
export function currencyExponent(currency: string): number {
  return -(new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits ?? 2)
}

/**
 * The bill of a period. Each line is rounded by itself, half away from zero, and the amount is the sum of the lines;
 * taxes are a percentage of the rounded lines that they are on. What is stated per billing period (fixed charges, bounds
 * of tiers, demand) counts by the share of days where another version or season begins within the period; bounds of
 * tiers are then rounded to a watt-hour.
 *
 * @param parts of the whole billing period, also of its days to come
 * @param quantities by part and time-of-use period of the part's version
 * @param exponent of the currency's smallest unit
 */
export function billOf(parts: readonly Part[], quantities: readonly (readonly Quantity[])[], exponent: number): Bill {
  const days = parts.reduce((n, p) => n + p.endDay - p.startDay, 0)
  const lines: BillLine[] = []
  let versionFrom = 0
  parts.forEach((part, i) => {
    const put = (kind: LineKind, name: string, unit: BillLine['unit'], quantity: Exact, price: Exact, amount: Exact): void => {
      lines.push({ kind, name, unit, quantity, price, amount: roundExact(amount, exponent), part })
    }
    const share: Share = { days: part.endDay - part.startDay, of: days }
    if (i === 0 || parts[i - 1].version !== part.version) {
      versionFrom = lines.length
      const run = { days: daysOfVersion(parts, i), of: days }
      for (const { name = 'Fixed charge', amount, per = 'period' } of part.version.body.fixed ?? []) {
        if (per === 'day') put('fixed', name, 'day', integer(run.days), decimal(amount), multiplyExact(decimal(amount), integer(run.days)))
        else put('fixed', name, 'share', shareText(run), decimal(amount), shared(decimal(amount), run, exponent))
      }
    }
    billPart(part, quantities[i], share, exponent, put)
    if (parts[i + 1]?.version !== part.version) billTaxes(part.version.body, lines.slice(versionFrom), put)
  })
  return { amount: lines.reduce((sum, line) => addExact(sum, line.amount), ZERO), lines }
}

interface Share {
  readonly days: number
  readonly of: number
}

type Put = (kind: LineKind, name: string, unit: BillLine['unit'], quantity: Exact, price: Exact, amount: Exact) => void

function billPart({ version, season }: Part, quantities: readonly Quantity[], share: Share, exponent: number, put: Put): void {
  const { body, periods } = version
  const isNet = body.netMetering?.method === 'net'
  const inSeason = (charge: { season?: string }): boolean => (charge.season ?? season) === season
  const matching = (charge: { touPeriod?: string }): Quantity[] =>
    quantities.filter((_, i) => (charge.touPeriod ?? periods[i]) === periods[i])
  let billed = ZERO
  let left = ZERO
  for (const charge of body.energy.filter(inSeason)) {
    const of = matching(charge)
    const delivered = sum(of.map((q) => q.delivered))
    const net = isNet ? subtractExact(delivered, sum(of.map((q) => q.received))) : delivered
    const kwh = net.mantissa < 0n ? ZERO : net
    if (net.mantissa < 0n) left = subtractExact(left, net)
    billed = addExact(billed, kwh)
    let from = ZERO
    for (const [k, tier] of charge.tiers.entries()) {
      const to = tier.upTo === undefined ? null : share.days === share.of ? decimal(tier.upTo) : shared(decimal(tier.upTo), share, -3)
      const upper = to === null || compareExact(kwh, to) < 0 ? kwh : to
      const quantity = subtractExact(upper, from)
      const name = charge.name ?? (charge.touPeriod === undefined ? 'Energy' : `Energy ${charge.touPeriod}`)
      if (quantity.mantissa > 0n || k === 0) {
        put('energy', charge.tiers.length === 1 ? name : `${name}, tier ${k + 1}`, 'kWh', quantity, decimal(tier.price), multiplyExact(quantity, decimal(tier.price)))
      }
      if (to === null || compareExact(kwh, to) <= 0) break
      from = to
    }
  }
  for (const { name, price } of body.adjustments ?? []) put('adjustment', name, 'kWh', billed, decimal(price), multiplyExact(billed, decimal(price)))
  for (const charge of (body.demand ?? []).filter(inSeason)) {
    const kw = matching(charge).reduce((most, q) => compareExact(q.demand, most) > 0 ? q.demand : most, ZERO)
    const name = charge.name ?? (charge.touPeriod === undefined ? 'Demand' : `Demand ${charge.touPeriod}`)
    put('demand', name, 'kW', kw, decimal(charge.price), shared(multiplyExact(kw, decimal(charge.price)), share, exponent))
  }
  if (body.netMetering !== undefined) {
    const credited = isNet ? left : sum(quantities.map((q) => q.received))
    const price = decimal(body.netMetering.creditPrice)
    if (credited.mantissa > 0n) put('credit', 'Net-metering credit', 'kWh', credited, price, subtractExact(ZERO, multiplyExact(credited, price)))
  }
}

function billTaxes(body: RateVersionRecord, lines: readonly BillLine[], put: Put): void {
  for (const { name, percent, on = taxed } of body.taxes ?? []) {
    const base = sum(lines.filter((l) => (on as readonly string[]).includes(l.kind)).map((l) => l.amount))
    put('tax', name, 'percent', decimal(percent), base, multiplyExact(base, multiplyExact(decimal(percent), { mantissa: 1n, exponent: -2 })))
  }
}

function daysOfVersion(parts: readonly Part[], first: number): number {
  let n = 0
  for (let i = first; i < parts.length && parts[i].version === parts[first].version; i++) n += parts[i].endDay - parts[i].startDay
  return n
}

/** The share of an amount that some of the days have, rounded. */
function shared(amount: Exact, { days, of }: Share, exponent: number): Exact {
  return days === of ? amount : divideExact(multiplyExact(amount, integer(days)), integer(of), exponent)
}

function shareText({ days, of }: Share): Exact {
  return days === of ? integer(1) : divideExact(integer(days), integer(of), -6)
}

function sum(values: readonly Exact[]): Exact {
  return values.reduce(addExact, ZERO)
}

/** True where more delivered energy can only raise the bill: then it may be held against a limit before the period ends. */
export function isRising(parts: readonly Part[]): boolean {
  return parts.every(({ version: { body } }) => {
    if (body.netMetering !== undefined) return false
    const extra = sum((body.adjustments ?? []).map((a) => decimal(a.price)))
    const prices = body.energy.flatMap((e) => e.tiers.map((t) => addExact(decimal(t.price), extra)))
    return prices.every((p) => p.mantissa >= 0n) && (body.demand ?? []).every((d) => d.price >= 0)
  })
}

/** A line as an answer shows it. */
export function lineAnswer(line: BillLine): { kind: string; name: string; quantity: number; unit: string; price: number; amount: number } {
  const number = (value: Exact): number => Number(exactText(value))
  return {
    kind: line.kind, name: line.name, quantity: number(line.quantity), unit: line.unit, price: number(line.price), amount: number(line.amount) }
}
