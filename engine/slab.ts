/**
 * Bytes of the piece of memory that arrays are cut from. One allocation for every day's array is slower, and the thousands
 * of them that a batch of days is leave the heap of the C library in holes (bench `memory`).
 */
const SLAB_BYTES = 262_144

let ints = new Int32Array(0)
let intsUsed = 0
let floats = new Float64Array(0)
let floatsUsed = 0

/** An array of zeros, which shares its buffer with others. */
export function cutInt32(n: number): Int32Array {
  if (n * 4 > SLAB_BYTES >> 4) return new Int32Array(n)
  if (intsUsed + n > ints.length) {
    ints = new Int32Array(SLAB_BYTES / 4)
    intsUsed = 0
  }
  return ints.subarray(intsUsed, intsUsed += n)
}

/** An array of zeros, which shares its buffer with others. */
export function cutFloat64(n: number): Float64Array {
  if (n * 8 > SLAB_BYTES >> 4) return new Float64Array(n)
  if (floatsUsed + n > floats.length) {
    floats = new Float64Array(SLAB_BYTES / 8)
    floatsUsed = 0
  }
  return floats.subarray(floatsUsed, floatsUsed += n)
}
