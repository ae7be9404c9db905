import { MISSING, QUALITY_MASK, Quality } from './read-batch.js'
import { sumUp, WH_EXPONENT, type Block, type Offer } from './settle.js'
import { cutFloat64 } from './slab.js'

/** Ways to settle reads for which nothing stands yet: what merge() comes to, for what meters mostly send. */

/**
 * Fast path for an empty block offered whole watt-hours of one plain quality, which is what a head-end's daily push is:
 * no comparison, no record of what stood. Returns the number of reads stored, or -1 when merge() must be used.
 */
export function fillEmpty(block: Block, offer: Offer): number {
  if (block.present !== 0 || offer.exponent !== WH_EXPONENT || offer.lanes !== null) return -1
  const { vals } = block
  const { values, slot, offset, count } = offer
  for (let i = 0; i < count; i++) vals[slot + i] = values[offset + i]
  sumUp(block)
  const { present } = block
  block.version = present === 0 ? 0 : offer.version
  if (offer.lane !== 0 && present > 0) {
    const lane = new Int16Array(vals.length)
    for (let i = 0; i < count; i++) if (vals[slot + i] !== MISSING) lane[slot + i] = offer.lane
    block.lane = lane
    block.estimated = (offer.lane & QUALITY_MASK) === Quality.estimated ? present : 0
  }
  return present
}

/**
 * Fast path for whole watt-hours offered to slots that are all missing yet, in a block of watt-hours: an interval pushed
 * by itself, which would else cost a look at every slot of its day. Nothing has to be compared, the exponent stays, and
 * the aggregates go on from what they were. Returns the number of reads stored, or -1 when merge() must be used.
 */
export function fillMissing(block: Block, offer: Offer): number {
  if (block.exponent !== WH_EXPONENT || offer.exponent !== WH_EXPONENT) return -1
  const { vals } = block
  const { values, slot, offset, count, lanes, version } = offer
  for (let i = 0; i < count; i++) if (values[offset + i] !== MISSING && vals[slot + i] !== MISSING) return -1
  let stored = 0
  for (let i = 0; i < count; i++) {
    const v = values[offset + i]
    if (v === MISSING) continue
    const at = slot + i
    const lane = lanes === null ? offer.lane : lanes[offset + i]
    if (lane !== 0) {
      block.lane ??= new Int16Array(vals.length)
      block.lane[at] = lane
      if ((lane & QUALITY_MASK) === Quality.estimated) block.estimated++
    }
    if (block.present === 0) block.version = version
    else if (block.versions !== null || version !== block.version) {
      block.versions ??= versionLane(block)
      block.versions[at] = version
      if (version > block.version) block.version = version
    }
    if (block.present === 0 || v > block.peak || (v === block.peak && at < block.peakSlot)) {
      block.peak = v
      block.peakSlot = at
    }
    vals[at] = v
    block.present++
    block.total += v
    stored++
  }
  return stored
}

/** The one version of a block's slots as a lane: 0 where there is no read. */
function versionLane({ vals, version }: Block): Float64Array {
  const versions = cutFloat64(vals.length)
  for (let i = 0; i < vals.length; i++) if (vals[i] !== MISSING) versions[i] = version
  return versions
}
