import { Type, type Static } from 'typebox'
import { Compile } from 'typebox/schema'
import { ApiError } from '../problem.js'
import { parseDay } from '../time/text.js'

const Name = Type.String({ minLength: 1, maxLength: 60, pattern: '^[^\\u0000-\\u001f\\ud800-\\udfff]+$' })
const Price = Type.Number({ minimum: -10_000, maximum: 10_000, description: 'In the utility\'s currency, at most 8 decimals' })
const MonthDay = Type.String({ pattern: '^(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])$', description: 'MM-DD' })
const Clock = Type.String({ pattern: '^([01]\\d:(00|15|30|45)|2[0-3]:(00|15|30|45)|24:00)$', description: 'Local time, at a quarter of an hour' })
const LocalDate = Type.String({ format: 'date', maxLength: 10, pattern: '^\\d{4}-\\d{2}-\\d{2}$' })
export const weekdays = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const
export const taxed = ['fixed', 'energy', 'demand', 'adjustment', 'credit'] as const
const open = { additionalProperties: false } as const
const Where = { season: Type.Optional(Name), touPeriod: Type.Optional(Name) }

export const RateVersionRecord = Type.Object({
  from: Type.String({ ...LocalDate, description: 'First local day of the version; it holds until the next one begins' }),
  fixed: Type.Optional(Type.Array(Type.Object({
    name: Type.Optional(Name), amount: Price, per: Type.Optional(Type.Enum(['period', 'day'])) }, open), { maxItems: 20 })),
  seasons: Type.Optional(Type.Array(Type.Object({
    name: Name, from: MonthDay, to: Type.String({ ...MonthDay, description: 'MM-DD, the last day' }) }, open), { maxItems: 12 })),
  touPeriods: Type.Optional(Type.Array(Type.Object({
    name: Name,
    windows: Type.Array(Type.Object({
      days: Type.Optional(Type.Array(Type.Enum([...weekdays]), { minItems: 1, maxItems: 7 })), from: Clock, to: Clock,
      season: Type.Optional(Name),
      holidays: Type.Optional(Type.Boolean({ description: 'True: on holidays too; without it a window leaves them out' })),
    }, open), { minItems: 1, maxItems: 20 }),
  }, open), { maxItems: 10 })),
  otherPeriod: Type.Optional(Type.String({ ...Name, description: 'Name of the hours in no window; off-peak' })),
  holidays: Type.Optional(Type.Array(LocalDate, { maxItems: 500 })),
  energy: Type.Array(Type.Object({
    name: Type.Optional(Name), ...Where,
    tiers: Type.Array(Type.Object({
      upTo: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1e9, description: 'kWh of the billing period; the last tier has none' })),
      price: Price }, open), { minItems: 1, maxItems: 20 }),
  }, open), { minItems: 1, maxItems: 50 }),
  demand: Type.Optional(Type.Array(Type.Object({ name: Type.Optional(Name), ...Where, price: Price }, open), { maxItems: 20 })),
  adjustments: Type.Optional(Type.Array(Type.Object({ name: Name, price: Price }, open), {
    maxItems: 20, description: 'Per kWh billed: a power-cost adjustment, riders' })),
  netMetering: Type.Optional(Type.Object({
    method: Type.Enum(['net', 'sell'], {
      description: 'net: received energy is taken off the delivered, and what is left over is credited; sell: all received energy is credited' }),
    creditPrice: Price }, open)),
  taxes: Type.Optional(Type.Array(Type.Object({
    name: Name, percent: Type.Number({ minimum: 0, maximum: 100 }),
    on: Type.Optional(Type.Array(Type.Enum([...taxed]), { minItems: 1 })) }, open), { maxItems: 20 })),
}, open)

export const RateRecord = Type.Object({
  name: Type.Optional(Type.Union([Name, Type.Null()])),
  versions: Type.Array(RateVersionRecord, { minItems: 1, maxItems: 200 }),
}, open)

export type RateVersionRecord = Static<typeof RateVersionRecord>
export type RateRecord = Static<typeof RateRecord>

const check = Compile(RateRecord)

/** A rate from a file. @throws ApiError 422 `invalid-rate` with the place */
export function parseRate(value: unknown, place: string): RateRecord {
  if (check.Check(value)) return value
  const [fault] = check.Errors(value)[1]
  throw new ApiError(422, 'invalid-rate', `The value ${fault.message}.`, { at: `${place}${fault.instancePath}` })
}

/**
 * What a schema cannot say: names that are used exist, every kWh has one price, tiers ascend, dates are dates.
 * @throws ApiError 422 `invalid-rate` with the place
 */
export function checkVersions(versions: readonly RateVersionRecord[]): void {
  const seen = new Set<string>()
  versions.forEach((version, i) => {
    const at = `/versions/${i}`
    if (parseDay(version.from) === undefined) throw invalid(`${at}/from`, 'This is not a date.')
    if (seen.has(version.from)) throw invalid(`${at}/from`, 'Two versions begin on this day.')
    seen.add(version.from)
    checkVersion(version, at)
  })
}

function checkVersion(version: RateVersionRecord, at: string): void {
  const seasons = (version.seasons ?? []).map((s) => s.name)
  const other = version.otherPeriod ?? 'off-peak'
  const periods = [...(version.touPeriods ?? []).map((p) => p.name), other]
  if (new Set(seasons).size < seasons.length) throw invalid(`${at}/seasons`, 'Two seasons have one name.')
  if (new Set(periods).size < periods.length) throw invalid(`${at}/touPeriods`, 'Two time-of-use periods have one name.')
  const known = (given: string | undefined, names: readonly string[], where: string): void => {
    if (given !== undefined && !names.includes(given)) throw invalid(where, `There is no "${given}" in this version; it has ${names.join(', ') || 'none'}.`)
  }
  version.holidays?.forEach((day, i) => {
    if (parseDay(day) === undefined) throw invalid(`${at}/holidays/${i}`, 'This is not a date.')
  })
  version.touPeriods?.forEach((p, i) => p.windows.forEach((w, k) => {
    known(w.season, seasons, `${at}/touPeriods/${i}/windows/${k}/season`)
    if (w.from === w.to) throw invalid(`${at}/touPeriods/${i}/windows/${k}/to`, 'A window ends at another time than it begins.')
  }))
  for (const list of ['energy', 'demand'] as const) {
    version[list]?.forEach((charge, i) => {
      known(charge.season, seasons, `${at}/${list}/${i}/season`)
      known(charge.touPeriod, periods, `${at}/${list}/${i}/touPeriod`)
    })
  }
  version.energy.forEach(({ tiers }, i) => tiers.forEach((tier, k) => {
    const where = `${at}/energy/${i}/tiers/${k}/upTo`
    if ((tier.upTo === undefined) !== (k === tiers.length - 1)) throw invalid(where, 'Every tier but the last has an upper bound.')
    if (k > 0 && tier.upTo !== undefined && tier.upTo <= tiers[k - 1].upTo!) throw invalid(where, 'Tiers ascend.')
  }))
  for (const season of hasDaysOutside(version.seasons ?? []) ? [undefined, ...seasons] : seasons) {
    for (const period of periods) {
      const prices = version.energy.filter((e) => (e.season ?? season) === season && (e.touPeriod ?? period) === period).length
      if (prices !== 1) {
        throw invalid(`${at}/energy`, `${prices === 0 ? 'No' : 'More than one'} energy price for "${period}" ${season === undefined ? 'outside of the seasons' : `in "${season}"`}.`)
      }
    }
  }
}

/** True where some day of the year, 29 February included, is in no season. */
function hasDaysOutside(seasons: readonly { from: string; to: string }[]): boolean {
  for (let day = Date.UTC(2024, 0, 1); day < Date.UTC(2025, 0, 1); day += 86_400_000) {
    const at = new Date(day).toISOString().slice(5, 10)
    if (!seasons.some(({ from, to }) => from <= to ? from <= at && at <= to : from <= at || at <= to)) return true
  }
  return false
}

function invalid(at: string, message: string): ApiError {
  return new ApiError(422, 'invalid-rate', message, { at })
}
