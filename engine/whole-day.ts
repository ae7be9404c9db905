import { MISSING } from './read-batch.js'
import { WH_EXPONENT, type Block, type Offer } from './settle.js'

/**
 * A new block out of an offer that is its whole day in plain whole watt-hours: what a head-end's daily push is. The block
 * takes the offer's slots over as its own, without a copy, so nobody may read them afterwards. null where it is not so.
 */
export function takeWhole(
  offer: Offer, channelId: number, day: number, firstS: number, intervalS: number, slots: number, deliveryNo: number, atUs: number,
): Block | null {
  if (offer.slot !== 0 || offer.count !== slots || offer.exponent !== WH_EXPONENT || offer.lanes !== null || offer.lane !== 0) return null
  const vals = offer.values.subarray(offer.offset, offer.offset + slots)
  let total = 0
  let present = 0
  let peak = MISSING
  let peakSlot = -1
  for (let i = 0; i < slots; i++) {
    const v = vals[i]
    if (v === MISSING) continue
    present++
    total += v
    if (v > peak) {
      peak = v
      peakSlot = i
    }
  }
  if (present === 0) return null
  return {
    channelId, day, firstS, intervalS, exponent: WH_EXPONENT, vals, lane: null, version: offer.version, versions: null,
    present, estimated: 0, total, peak, peakSlot, deliveryNo, settledAtUs: atUs, restatedAtUs: 0,
  }
}
