/** What MultiSpeak says of a load profile: its interval length, and of its channels the unit and flow. */
import { unitOf, type Unit } from '../../engine/quantity.js'
import { Flow, type FlowCode } from '../../engine/read-batch.js'

/** A load profile's channel: what the values of `ch` with its index are. */
export interface ProfileChannel {
  index: number
  name: string
  units: string
}

/** A profile as its element has it; plain data, since blocks in later parts refer to it. */
export interface MultiSpeakProfile {
  id: string
  intervalS: number
  channels: ProfileChannel[]
}

/** Seconds of the units that 4.1 has for intervalLength; 3.0 has a bare number of minutes. */
export const LENGTH_UNIT_S: Readonly<Record<string, number>> = {
  second: 1, seconds: 1, minute: 60, minutes: 60, hour: 3600, hours: 3600, day: 86_400, days: 86_400,
}

/** Unit of a channel's words: `kWh`, or `kWh Delivered`; the source's where it states none. */
export function unitIn(words: string, defaultUnit: string | undefined): Unit | undefined {
  if (words.trim() === '') return unitOf(defaultUnit ?? 'kWh')
  const whole = unitOf(words.trim())
  if (whole !== undefined) return whole
  for (const word of words.split(/[\s_\-()/]+/)) {
    const unit = unitOf(word)
    if (unit !== undefined) return unit
  }
  return undefined
}

/** Flow that a channel's name tells; delivered where it tells none. */
export function flowIn(words: string): FlowCode {
  if (/revers|receiv|\brcv|\brec\b|neg|export/i.test(words)) return Flow.received
  return /\bnet\b/i.test(words) ? Flow.net : Flow.delivered
}
