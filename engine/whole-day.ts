import { sumUp, WH_EXPONENT, type Block, type Offer } from './settle.js'

/**
 * A new block out of an offer that is its whole day in plain whole watt-hours: what a head-end's daily push is. The block
 * takes the offer's slots over as its own, without a copy, so nobody may read them afterwards. null where it is not so.
 */
export function takeWhole(
  offer: Offer, channelId: number, day: number, firstS: number, intervalS: number, slots: number, deliveryNo: number, atUs: number,
): Block | null {
  if (offer.slot !== 0 || offer.count !== slots || offer.exponent !== WH_EXPONENT || offer.lanes !== null || offer.lane !== 0) return null
  const vals = offer.values.subarray(offer.offset, offer.offset + slots)
  const block: Block = {
    channelId, day, firstS, intervalS, exponent: WH_EXPONENT, vals, lane: null, version: offer.version, versions: null,
    present: 0, estimated: 0, total: 0, peak: 0, peakSlot: -1, deliveryNo, settledAtUs: atUs, restatedAtUs: 0,
  }
  sumUp(block)
  return block.present === 0 ? null : block
}
