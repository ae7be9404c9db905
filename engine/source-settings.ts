/** How a source's reads are to be understood (contract §4, PUT /v1/sources/{name}); every member optional there. */
export interface SourceSettings {
  unknownMeters: 'quarantine' | 'register' | 'reject'
  /** IANA zone of local timestamps; null: the utility's. */
  zone: string | null
  label: 'start' | 'end' | null
  defaultIntervalSeconds: number | null
  unit: string | null
  /** Values finer than what can be kept are rounded and counted, instead of quarantined. */
  round: boolean
  /** False: values are raw counts, the meter's multiplier has yet to be applied. */
  multiplierApplied: boolean
}

const DEFAULTS: SourceSettings = {
  unknownMeters: 'quarantine', zone: null, label: null, defaultIntervalSeconds: null, unit: null, round: false,
  multiplierApplied: true,
}

/** Stored settings over the defaults. */
export function sourceSettings(stored: Partial<SourceSettings>): SourceSettings {
  return { ...DEFAULTS, ...stored }
}
