import { ApiError } from '../engine/problem.js'
import type { Clock, SourceSettings } from '../engine/source-settings.js'
import { fixedZone, getZone, standardTime, type Zone } from '../engine/time/zone.js'
import type { DecodeContext } from './formats/format.js'
import { parseMapping, type CsvMapping } from './formats/mapping.js'
import { mappingNames, shippedMapping } from './formats/mappings.js'

/**
 * What a decoder is told about a body: the source's settings, under what the delivery itself said.
 * @param given zone, mapping and meter of the delivery; null where it said nothing
 * @throws ApiError 422 for a mapping or zone that nobody knows
 */
export function decodeContext(
  settings: SourceSettings, utilityZone: string | null, given: { zone: string | null; mapping: string | null; meter?: string | null },
): DecodeContext {
  const mapping = given.mapping === null ? undefined : findMapping(given.mapping)
  const name = given.zone ?? settings.zone ?? utilityZone
  const zone = name === null ? null : zoneOf(name)
  const { clock } = settings
  return {
    zone: clockZone(zone, clock),
    ...(zone !== null && (clock === 'utc' || clock === 'local-standard') ? { dayZone: zone } : {}),
    ...(clock === null ? {} : { clock }),
    ...(settings.label === null ? {} : { label: settings.label }),
    ...(settings.defaultIntervalSeconds === null ? {} : { defaultIntervalS: settings.defaultIntervalSeconds }),
    ...(settings.unit === null ? {} : { defaultUnit: settings.unit }),
    ...(given.meter == null ? {} : { meter: given.meter }),
    round: settings.round,
    // A zone stated with the delivery is nearer to the file than the mapping's.
    ...(mapping === undefined ? {} : { mapping: given.zone === null ? mapping : { ...mapping, zone: given.zone } }),
  }
}

/** The zone in which local times are told. */
function clockZone(zone: Zone | null, clock: Clock | null): Zone | null {
  if (clock === 'utc') return fixedZone('UTC', 0)
  return zone !== null && clock === 'local-standard' ? standardTime(zone) : zone
}

function zoneOf(name: string): ReturnType<typeof getZone> {
  try {
    return getZone(name)
  } catch (err) {
    if (!(err instanceof RangeError)) throw err
    throw new ApiError(422, 'unknown-zone', `There is no time zone ${JSON.stringify(name)}.`,
      { help: 'Use an IANA name such as America/Chicago.' })
  }
}

/** A shipped mapping by its name, or one given as a JSON text. */
function findMapping(given: string): CsvMapping {
  const shipped = shippedMapping(given)
  if (shipped !== undefined) return shipped
  let value: unknown
  try {
    value = JSON.parse(given)
  } catch {
    throw new ApiError(422, 'unknown-mapping', `There is no mapping ${JSON.stringify(given.slice(0, 60))}.`,
      { help: `Name one of ${mappingNames().join(', ')}, or give a mapping as JSON.` })
  }
  try {
    return parseMapping(value)
  } catch (err) {
    if (!(err instanceof RangeError)) throw err
    throw new ApiError(422, 'invalid-mapping', err.message)
  }
}
