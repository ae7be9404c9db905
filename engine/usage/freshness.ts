import type { Zone } from '../time/zone.js'

/**
 * The instant up to which reads are due: the end of the last local day that is over. Head-ends push a day's reads some
 * time after the day ends, so what the running day lacks is not missing yet, and what an earlier day lacks is. Reads that
 * come sooner are served all the same; they are only not counted. Sources that push every few hours could be asked
 * sooner: this is the one place that says when.
 *
 * @param nowS epoch seconds; for a past state the instant asked for
 */
export function expectedThrough(zone: Zone, nowS: number): number {
  return zone.dayStart(zone.dayOf(nowS))
}
