import type { HeldReads } from './format.js'

/**
 * Which pass of a repeated hour reads belong to, told by the order in which the file has them: the first pass is the
 * earlier instant, the second the later one. Files do it in three ways: one pass after the other, the two reads of each
 * time side by side, or either with the newest first. Where the file has only one pass it could be either, and nothing
 * is guessed (formats.md §0.1, rule 4).
 *
 * @param held reads of one channel at repeated local times, in file order
 * @param instants of a local time: two, ascending
 * @param followedByS start of the channel's next read after these; NaN where there is none
 * @returns for each of `held` its instant (of localS, nothing subtracted), or NaN where it cannot be told
 */
export function resolvePasses(
  held: readonly HeldReads[], instants: (localS: number) => number[], followedByS: number,
): number[] {
  const newestFirst = isNewestFirst(held, instants, followedByS)
  const ordered = newestFirst ? held.toReversed() : held
  const resolved = resolveAscending(ordered, instants)
  return newestFirst ? resolved.toReversed() : resolved
}

function resolveAscending(held: readonly HeldReads[], instants: (localS: number) => number[]): number[] {
  const times = new Map<number, number>()
  // Clocks go back where a read is earlier than the one before; a time twice in a row is both passes side by side.
  let turns = 0
  let turnAt = 0
  for (let i = 0; i < held.length; i++) {
    times.set(held[i].localS, (times.get(held[i].localS) ?? 0) + 1)
    if (i > 0 && held[i].localS < held[i - 1].localS) {
      turns++
      turnAt = i
    }
  }
  const seen = new Set<number>()
  return held.map((reads, i) => {
    const [earlier, later] = instants(reads.localS)
    const count = times.get(reads.localS) ?? 0
    if (count === 2) {
      if (seen.has(reads.localS)) return later
      seen.add(reads.localS)
      return earlier
    }
    // A read that one pass lacks: the place of the turn tells which.
    if (count === 1 && turns === 1) return i < turnAt ? earlier : later
    return NaN
  })
}

function isNewestFirst(
  held: readonly HeldReads[], instants: (localS: number) => number[], followedByS: number,
): boolean {
  const first = held[0]
  const last = held[held.length - 1]
  if (!Number.isNaN(first.previousS)) return first.previousS > instants(first.localS)[1]
  if (!Number.isNaN(followedByS)) return followedByS < instants(last.localS)[0]
  let steps = 0
  for (let i = 1; i < held.length; i++) steps += Math.sign(held[i].localS - held[i - 1].localS)
  return steps < 0
}
