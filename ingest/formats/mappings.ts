import { parseMapping, type CsvMapping } from './mapping.js'

/** Mappings that come with the program, by name. Written as the JSON files that users write. */
const SHIPPED: readonly unknown[] = [
  {
    // Liander's Zonnedael: a column per home, Wh per quarter hour, times name the interval's start.
    name: 'zonnedael',
    layout: 'wide',
    wide: { timeColumn: 'datetime' },
    datePattern: 'd-M-yyyy HH:mm',
    unit: 'Wh',
    intervalSeconds: 900,
  },
  {
    name: 'smart-meter-texas',
    columns: {
      meter: 'ESIID', date: 'USAGE_DATE', startTime: 'USAGE_START_TIME', endTime: 'USAGE_END_TIME', value: 'USAGE_KWH',
      quality: 'ESTIMATED_ACTUAL', flow: 'CONSUMPTION_SURPLUSGENERATION', version: 'REVISION_DATE',
    },
    datePattern: 'MM/dd/yyyy',
    timePattern: 'HH:mm',
    versionPattern: 'MM/dd/yyyy HH:mm:ss',
    qualityMap: { A: 'actual', E: 'estimated', '': 'actual' },
    flowMap: { Consumption: 'delivered', 'Surplus Generation': 'received' },
    strip: '\'',
    intervalSeconds: 900,
  },
  {
    // Low Carbon London: half hours; the clock is GMT all year.
    name: 'lcl',
    columns: { meter: 'LCLid', start: 'DateTime', value: 'KWH/hh (per half hour)' },
    datePattern: 'yyyy-MM-dd HH:mm:ss',
    zone: 'Etc/UTC',
    missing: ['Null'],
    intervalSeconds: 1800,
  },
  {
    // Ausgrid solar homes: GC general consumption, GG gross generation; local standard time all year.
    name: 'ausgrid',
    layout: 'wide',
    wide: {
      timeColumn: 1,
      channels: { GC: { meter: 'ausgrid', flow: 'delivered' }, GG: { meter: 'ausgrid', flow: 'received' } },
    },
    datePattern: 'yyyy-MM-dd HH:mm:ss',
    zone: 'Etc/GMT-10',
    intervalSeconds: 1800,
  },
  {
    // The sample meters of eemeter: hourly, timestamps with their offset, no meter id.
    name: 'eemeter',
    columns: { start: 'start', value: 'value' },
    meterId: 'eemeter',
    intervalSeconds: 3600,
  },
  {
    // Opower's download of utility portals (PG&E, ComEd): a preamble with the account, a row per interval whose end is its
    // last minute, negative where more was exported than used. Only the notes tell an estimate.
    name: 'opower',
    headerLine: 'TYPE',
    columns: { date: 'DATE', startTime: 'START TIME', endTime: 'END TIME', value: 'USAGE', unit: 'UNITS', quality: 'NOTES' },
    datePattern: 'yyyy-MM-dd|M/d/yyyy',
    endInclusive: true,
    negative: 'received',
    qualityMap: { '': 'actual', '*': 'estimated' },
  },
  {
    name: 'opower-kwh',
    headerLine: 'TYPE',
    columns: { date: 'DATE', startTime: 'START TIME', endTime: 'END TIME', value: 'USAGE (kWh)', quality: 'NOTES' },
    datePattern: 'yyyy-MM-dd|M/d/yyyy',
    endInclusive: true,
    negative: 'received',
    qualityMap: { '': 'actual', '*': 'estimated' },
  },
  {
    // The same for members with generation: both flows of an interval in a row.
    name: 'opower-import-export',
    headerLine: 'TYPE',
    columns: { date: 'DATE', startTime: 'START TIME', endTime: 'END TIME', quality: 'NOTES' },
    values: [{ column: 'IMPORT (kWh)', flow: 'delivered' }, { column: 'EXPORT (kWh)', flow: 'received' }],
    datePattern: 'yyyy-MM-dd|M/d/yyyy',
    endInclusive: true,
    qualityMap: { '': 'actual', '*': 'estimated' },
  },
  {
    // Southern California Edison's download: a heading before each day, both ends in a field with no-break spaces.
    name: 'sce',
    headerLine: 'Energy consumption time period',
    skipRows: ['Data for period starting', 'Energy consumption time period'],
    columns: { range: 1, value: 2, quality: 3 },
    datePattern: 'yyyy-MM-dd HH:mm:ss',
    qualityMap: { '': 'actual', '*': 'estimated' },
  },
  {
    // Badger's BEACON export: the hour's flow, whose time is its last minute (not verified), and the register.
    name: 'badger-beacon',
    columns: { meter: 'Meter_ID', quality: 'Estimated_Flag' },
    values: [
      { column: 'Flow', unitColumn: 'Flow_Unit', time: 'Flow_Time' },
      { column: 'Read', unitColumn: 'Read_Unit', time: 'Read_Time', register: true },
    ],
    label: 'end',
    endInclusive: true,
    datePattern: 'yyyy-MM-dd HH:mm',
    qualityMap: { 0: 'actual', 1: 'estimated', '': 'actual' },
    unit: 'gal',
    intervalSeconds: 3600,
  },
]

/** Names of the shipped mappings. */
export function mappingNames(): string[] {
  return SHIPPED.map(mapping => parseMapping(mapping).name)
}

/** A shipped mapping; undefined where there is none of that name. */
export function shippedMapping(name: string): CsvMapping | undefined {
  return SHIPPED.map(parseMapping).find(mapping => mapping.name === name)
}
