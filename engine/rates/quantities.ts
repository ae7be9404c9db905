import { Flow } from '../read-batch.js'
import { eachSlot } from '../thresholds/crossing.js'
import { ZERO, type Exact } from '../thresholds/exact.js'
import type { Reading } from '../thresholds/readings.js'
import { demandOf, exactOf } from '../thresholds/slots.js'
import type { Zone } from '../time/zone.js'
import { ExactSum } from '../usage/decimal.js'
import type { Quantity } from './bill.js'
import type { Part } from './calendar.js'

export interface Quantities {
  /** By part and time-of-use period of its version. */
  readonly quantities: readonly (readonly Quantity[])[]
  /** False where a read is too long to be told apart by the rate's hours. */
  readonly isTold: boolean
  readonly present: number
  readonly estimated: number
}

/** What the reads of a billing period come to by part and time-of-use period; a read counts where it starts. */
export function quantitiesOf(parts: readonly Part[], readings: readonly Reading[], zone: Zone): Quantities {
  const sums = parts.map((p) => p.version.periods.map(() => ({ [Flow.delivered]: new ExactSum(), [Flow.received]: new ExactSum() })))
  let isTold = true
  let present = 0
  let estimated = 0
  let at = 0
  const partOf = (startS: number): number => {
    const day = zone.dayOf(startS)
    if (day < parts[at].startDay || day >= parts[at].endDay) at = parts.findIndex((p) => day >= p.startDay && day < p.endDay)
    return at
  }
  for (const block of readings) {
    if (block.flow === Flow.net) continue
    const { flow } = block
    eachSlot(block, (value, slot, startS) => {
      const part = partOf(startS)
      const period = parts[part].version.periodAt(startS, block.intervalS, zone)
      present++
      if (block.lanes !== null && (block.lanes[slot] & 7) === 1) estimated++
      if (period < 0) isTold = false
      else sums[part][period][flow].add(value, block.exponent)
    })
  }
  const delivered = readings.filter((r) => r.flow === Flow.delivered)
  const quantities = parts.map((part, i) => part.version.periods.map((_, period): Quantity => ({
    delivered: exactOf(sums[i][period][Flow.delivered]), received: exactOf(sums[i][period][Flow.received]),
    demand: demandIn(part, period, delivered, zone) })))
  return { quantities, isTold, present, estimated }
}

function demandIn(part: Part, period: number, delivered: readonly Reading[], zone: Zone): Exact {
  if ((part.version.body.demand ?? []).length === 0) return ZERO
  const fromS = zone.dayStart(part.startDay)
  const toS = zone.dayStart(part.endDay)
  const within = delivered.filter((r) => r.dayEndS > fromS && r.dayEndS <= toS)
    .map((r) => ({ ...r, counts: (startS: number, intervalS: number) => part.version.periodAt(startS, intervalS, zone) === period }))
  return demandOf(within, ZERO)?.kw ?? ZERO
}
