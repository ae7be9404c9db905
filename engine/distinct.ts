/** The distinct values in ascending order. Int32 values; a typed array sorts several times faster than a Set is filled. */
export function distinctAscending(values: readonly number[]): Int32Array {
  const sorted = Int32Array.from(values).sort()
  let n = 0
  for (let i = 0; i < sorted.length; i++) if (i === 0 || sorted[i] !== sorted[i - 1]) sorted[n++] = sorted[i]
  return sorted.subarray(0, n)
}
