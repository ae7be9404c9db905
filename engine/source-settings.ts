export const clocks = ['utc', 'local-standard', 'local-prevailing', 'wall-as-epoch'] as const
export type Clock = (typeof clocks)[number]

/** How a source's reads are to be understood (contract §4, PUT /v1/sources/{name}); every member optional there. */
export interface SourceSettings {
  unknownMeters: 'quarantine' | 'register' | 'reject'
  /** IANA zone of local timestamps; null: the utility's. */
  zone: string | null
  label: 'start' | 'end' | null
  /**
   * What timestamps without an offset, and those of formats that leave it open, are told by; null: the format's own rule.
   * utc · local-standard: the zone's standard time all year · local-prevailing: with daylight saving ·
   * wall-as-epoch: stamps that say UTC, or epochs, hold the local wall clock.
   */
  clock: Clock | null
  defaultIntervalSeconds: number | null
  unit: string | null
  /** Values finer than what can be kept are rounded and counted, instead of quarantined. */
  round: boolean
  /** False: values are raw counts, the meter's multiplier has yet to be applied. */
  multiplierApplied: boolean
  /** Ids of validation rules that are not applied to this source's reads; validate/skipping.ts says how. */
  skipRules: string[]
}

const DEFAULTS: SourceSettings = {
  unknownMeters: 'quarantine', zone: null, label: null, clock: null, defaultIntervalSeconds: null, unit: null, round: false,
  multiplierApplied: true, skipRules: [],
}

/** Stored settings over the defaults. */
export function sourceSettings(stored: Partial<SourceSettings>): SourceSettings {
  return { ...DEFAULTS, ...stored }
}
