import type pg from 'pg'
import { versionText } from './canonical-block.js'
import { decimalFactor, type PlanContext } from './plan.js'
import type { RecordProblem } from './problem.js'
import { isScaledByMultiplier, unitOfQuantity } from './quantity.js'
import { flowNames, qualityName, rankOf, type FlowCode } from './read-batch.js'
import type { RegisterBatch } from './register-batch.js'
import type { MeterRef } from './registry-map.js'
import { nanosText, readRegisters, SCALE, writeRegisters, type RegisterKind, type StoredRegister, type SupersededRegister } from './store/registers.js'
import { dayText } from './time/text.js'

/**
 * Settlement of register reads and of periods longer than a day: what stands under a key is the greatest (rank, version,
 * value) ever offered to it (design C4), and every offer that does not stand is kept, so that a delivery can be withdrawn.
 */

const FUTURE_S = 600
const DAY_S = 86_400
const FIRST_DAY = 3652 // 1980-01-01, as in plan.ts

/** A register's value offered to the store. */
export interface RegisterOffer {
  meter: MeterRef
  quantity: number
  flow: number
  tou: string
  atS: number
  /** NaN for a cumulative register. */
  fromS: number
  /** Value x 10^9. */
  nanos: bigint
  lane: number
  /** Microseconds. */
  version: number
  /** Index of the delivery in its group. */
  delivery: number
}

export interface RegisterPlan {
  offers: RegisterOffer[]
  problems: RecordProblem[]
  unknown: Set<string>
  fromS: number
  toS: number
}

/** Resolves the meters of a batch and checks what can be checked of each read by itself. */
export function planRegisters(batch: RegisterBatch, context: PlanContext, deliveryVersion: number): RegisterPlan {
  const plan: RegisterPlan = { offers: [], problems: [], unknown: new Set(), fromS: Infinity, toS: -Infinity }
  for (let i = 0; i < batch.count; i++) {
    const meter = context.map.meter(batch.meters[i])
    if (meter === undefined) {
      plan.unknown.add(batch.meters[i])
      if (context.unknownMeters === 'register') continue
    }
    const fault = meter === undefined ? unknownMeter(batch.meters[i], context) : faultOf(batch, i, context)
    const nanos = fault === undefined ? valueOf(batch, i, meter!, context) : undefined
    if (nanos === undefined) {
      plan.problems.push({
        ...fault ?? {
          code: 'value-range', outcome: 'quarantined', message: 'the value has more than 9 decimals when multiplied',
          help: 'check the multiplier and the unit',
        },
        at: `record ${batch.place[i]}`, meter: batch.meters[i], reads: 1, record: registerRecord(batch, i),
      })
      continue
    }
    plan.offers.push({
      meter: meter!, quantity: batch.quantity[i], flow: batch.flow[i], tou: batch.tou[i], atS: batch.atS[i], fromS: batch.fromS[i],
      nanos, lane: batch.lane[i], version: batch.version[i] > 0 ? batch.version[i] : deliveryVersion, delivery: context.delivery,
    })
    const fromS = Number.isNaN(batch.fromS[i]) ? batch.atS[i] : batch.fromS[i]
    if (fromS < plan.fromS) plan.fromS = fromS
    if (batch.atS[i] > plan.toS) plan.toS = batch.atS[i]
  }
  return plan
}

type Fault = Pick<RecordProblem, 'code' | 'outcome' | 'message' | 'help'>

function unknownMeter(name: string, context: PlanContext): Fault {
  const reject = context.unknownMeters === 'reject'
  return {
    code: 'unknown-meter', outcome: reject ? 'rejected' : 'quarantined', message: `meter ${name} is not registered`,
    help: reject ? 'register it with PUT /v1/meters, then push again'
      : 'register it with PUT /v1/meters: these reads then settle by themselves',
  }
}

function faultOf(batch: RegisterBatch, i: number, context: PlanContext): Fault | undefined {
  const atS = batch.atS[i]
  if (atS > context.nowS + FUTURE_S) {
    return {
      code: 'future-read', outcome: 'quarantined', message: `a read at ${instant(atS)} lies in the future`,
      help: 'check the clock and the zone of the source; replay it once its time has come',
    }
  }
  const day = Math.floor(atS / DAY_S)
  if (day < FIRST_DAY || context.zone.dayOf(atS) < context.horizonDay) {
    return {
      code: 'past-retention', outcome: 'rejected', message: `${dayText(day)} is before the days that are kept`,
      help: day < FIRST_DAY ? `no read before ${dayText(FIRST_DAY)} is taken: check the date` : 'raise RETENTION_READS to load older reads',
    }
  }
  return undefined
}

/** The value in 10^-9 of the unit, the meter's multiplier applied where it has yet to be; undefined where it does not fit. */
function valueOf(batch: RegisterBatch, i: number, meter: MeterRef, context: PlanContext): bigint | undefined {
  const apply = !context.multiplierApplied && isScaledByMultiplier(batch.quantity[i]) && meter.multiplier !== 1
  const { factor, shift } = apply ? decimalFactor(meter.multiplier) : { factor: 1, shift: 0 }
  const decimals = SCALE + batch.exponent[i] - shift
  const product = BigInt(batch.mantissa[i]) * BigInt(factor)
  if (decimals >= 0) return product * 10n ** BigInt(decimals)
  const divisor = 10n ** BigInt(-decimals)
  return product % divisor === 0n ? product / divisor : undefined
}

/** What one delivery's registers came to. */
export interface RegisterTally {
  stored: number
  duplicate: number
  corrected: number
  outranked: number
}

const CHUNK = 20_000

/**
 * Settles the offers of a commit. The caller has locked their meters.
 * @param deliveryNos per index of a delivery
 * @param tallies per index of a delivery; added to
 */
export async function settleRegisters(
  client: pg.PoolClient, offers: readonly RegisterOffer[], deliveryNos: readonly number[], tallies: readonly RegisterTally[],
  atUs: number,
): Promise<void> {
  for (const kind of ['register', 'period'] as const) {
    const groups = [...groupByKey(offers.filter((o) => Number.isNaN(o.fromS) === (kind === 'register'))).values()]
    // One order for all writers.
    groups.sort((a, b) => a[0].meter.meterId - b[0].meter.meterId || a[0].atS - b[0].atS)
    for (let from = 0; from < groups.length; from += CHUNK) {
      await settleChunk(client, kind, groups.slice(from, from + CHUNK), deliveryNos, tallies, atUs)
    }
  }
}

function keyOf(o: { meterId: number; quantity: number; flow: number; tou: string; atS: number; fromS: number }): string {
  return `${o.meterId}|${o.quantity}|${o.flow}|${o.atS}|${o.fromS}|${o.tou}`
}

function groupByKey(offers: readonly RegisterOffer[]): Map<string, RegisterOffer[]> {
  const groups = new Map<string, RegisterOffer[]>()
  for (const o of offers) {
    const key = keyOf({ ...o, meterId: o.meter.meterId })
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [o])
    else group.push(o)
  }
  return groups
}

async function settleChunk(
  client: pg.PoolClient, kind: RegisterKind, groups: readonly RegisterOffer[][], deliveryNos: readonly number[],
  tallies: readonly RegisterTally[], atUs: number,
): Promise<void> {
  const stored = new Map((await readRegisters(client, kind, groups.map(([o]) => storedOf(o, 0)))).map((r) => [keyOf(r), r]))
  const changed: StoredRegister[] = []
  const superseded: SupersededRegister[] = []
  for (const group of groups) {
    const before = stored.get(keyOf({ ...group[0], meterId: group[0].meter.meterId }))
    let stands = before
    for (const offer of group) {
      const offered = storedOf(offer, deliveryNos[offer.delivery])
      const tally = tallies[offer.delivery]
      if (stands === undefined) {
        tally.stored++
        stands = offered
        continue
      }
      const wins = compare(offered, stands) > 0
      if (offered.nanos === stands.nanos && rankOf(offered.lane) <= rankOf(stands.lane)) tally.duplicate++
      else if (wins) tally.corrected++
      else tally.outranked++
      if (wins) {
        superseded.push({ ...stands, replaced: true })
        stands = offered
      } else if (offered.nanos !== stands.nanos) superseded.push({ ...offered, replaced: false })
    }
    if (stands !== undefined && stands !== before) changed.push(stands)
  }
  await writeRegisters(client, kind, changed, superseded, atUs)
}

function storedOf(o: RegisterOffer, deliveryNo: number): StoredRegister {
  return {
    meterId: o.meter.meterId, quantity: o.quantity, flow: o.flow, tou: o.tou, atS: o.atS, fromS: o.fromS, nanos: o.nanos,
    lane: o.lane, version: o.version, deliveryNo,
  }
}

/** The order of C4. */
function compare(a: StoredRegister, b: StoredRegister): number {
  return rankOf(a.lane) - rankOf(b.lane) || a.version - b.version
    || (a.nanos === b.nanos ? a.lane - b.lane : a.nanos > b.nanos ? 1 : -1)
}

/** A register's read as a record of the contract's JSON (§4): the form in which quarantine keeps it for replay. */
export function registerRecord(batch: RegisterBatch, i: number): string {
  const times = Number.isNaN(batch.fromS[i])
    ? { kind: 'register', start: instant(batch.atS[i]) }
    : { kind: 'period', start: instant(batch.fromS[i]), end: instant(batch.atS[i]) }
  const head = { meter: batch.meters[i], ...times }
  const tail = {
    unit: unitOfQuantity(batch.quantity[i]), flow: flowNames[batch.flow[i] as FlowCode], quality: qualityName(batch.lane[i]),
    ...(batch.tou[i] === '' ? {} : { tou: batch.tou[i] }),
    ...(batch.version[i] > 0 ? { capturedAt: versionText(batch.version[i]) } : {}),
  }
  const nanos = BigInt(batch.mantissa[i]) * 10n ** BigInt(SCALE + batch.exponent[i])
  return `${JSON.stringify(head).slice(0, -1)},"value":${nanosText(nanos)},${JSON.stringify(tail).slice(1)}`
}

function instant(s: number): string {
  return new Date(s * 1000).toISOString()
}
