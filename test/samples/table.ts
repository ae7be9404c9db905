import { readFileSync } from 'node:fs'
import { Quantity, unitOf } from '../../engine/quantity.js'
import type { Flow } from '../../engine/read-batch.js'
import { meterOfStream } from '../../ingest/formats/nem12-words.js'
import { sampleFiles, samplesFolder } from './nem.js'

/**
 * Every file of the samples, how it is loaded and what must be stored of it. What is stored goes by `KIND QUANTITY FLOW METER`,
 * where KIND is interval, register or period; the sums are exact decimals.
 */
export interface SampleFile {
  file: string
  /** Settings of its source, beside unknown meters being registered. */
  source?: Readonly<Record<string, unknown>>
  /** What the file cannot say: as the query of POST /v1/reads and as the options of `meterline load`. */
  options?: Readonly<{ mapping?: string; meter?: string; zone?: string }>
  stored: ReadonlyMap<string, string>
  /** Reads and periods of the file, and registers where the table has any; those that NEM12 and NEM13 state beside their reads are not counted. */
  received: number
  /** Reads of the file that are in it twice, with the same value and with another. */
  duplicate?: number
  corrected?: number
  events?: number
  /** Records that are refused, each with its place; the others are stored. */
  problems?: readonly { at: string; code: string }[]
  /** The whole file is refused. */
  refused?: { status: number; code: string; at?: string; says: string }
}

/** Files that hold other readers' results, not reads. */
export const RESULTS = ['cmep/oracle/sensus_2011.importer_output.csv', 'cmep/oracle/smartsynch_2009.importer_output.csv']

type Sums = Map<string, string>

interface NemRow { file: string; nmi: string; suffix: string; reads: number; total: number; uom: string[]; error?: string }
interface GreenButtonRow { file: string; plain_sum: { n: number; raw_sum: number; reading_types: { powerOfTenMultiplier: string; uom: string }[] } }
interface CmepRow { meter: string; units: string; count: number; sum: number }
interface Totals { nem: NemRow[]; greenButton: GreenButtonRow[]; plain: Record<string, unknown> }

/** @returns a row for every file that there is */
export function sampleTable(): SampleFile[] {
  const read = (name: string): unknown => JSON.parse(readFileSync(new URL(`totals.${name}.json`, samplesFolder), 'utf8'))
  const totals: Totals = {
    nem: read('nem12') as NemRow[], greenButton: read('green_button') as GreenButtonRow[], plain: read('cmep_csv') as Record<string, unknown> }
  return [...nemFiles(totals), ...greenButtonFiles(totals), ...cmepFiles(totals), ...csvFiles(totals), ...messages()]
}

/** A sum of binary floats as the decimal that it stands for: their noise is far below a thousand-millionth. */
export function decimal(total: number, shift = 0): string {
  const text = total.toFixed(9)
  const [whole, part] = text.replace('-', '').split('.')
  const digits = (whole + part).padStart(shift + 10, '0')
  const point = digits.length - 9 - shift
  const plain = `${digits.slice(0, point).replace(/^0+(?=\d)/, '')}.${digits.slice(point)}`.replace(/\.?0+$/, '')
  return `${text.startsWith('-') && plain !== '0' ? '-' : ''}${plain}`
}

const LETTERS: Readonly<Record<string, readonly [keyof typeof Quantity, keyof typeof Flow]>> = {
  E: ['energy', 'delivered'], B: ['energy', 'received'], Q: ['reactive-energy', 'delivered'], K: ['reactive-energy', 'received'],
  V: ['voltage', 'delivered'],
}

/** A day that is in the file twice, which the oracle adds up: the later one counts. */
function powercor(energy: string, reactive: string, again: object): Own {
  return { stored: new Map([['interval energy delivered VABD000163', energy], ['interval reactive-energy delivered VABD000163', reactive]]), received: 192, ...again }
}

type Own = Omit<Partial<SampleFile>, 'file'>
const NOTHING: Own = { stored: new Map() }

/** Files that are bad or odd: what is wrong, where, and what of the file is stored all the same. */
const ODD_NEM: Readonly<Record<string, Own>> = {
  'Example_NEM12_15min_200_30min_300.csv': { ...NOTHING, problems: [{ at: 'line 3', code: 'value-count' }], received: 48 },
  // Half of the day's 96 intervals have no quality, 24 are null by it: the oracle reads them all.
  'Example_NEM12_15min_200_30min_400.csv': { ...NOTHING, problems: [{ at: 'line 3', code: 'quality-range' }], received: 72 },
  // The oracle takes the first 48 of 96 values.
  'Example_NEM12_30min_200_15min_300.csv': { ...NOTHING, problems: [{ at: 'line 3', code: 'value-count' }], received: 96 },
  'Example_NEM12_30min_200_15min_400.csv': { ...NOTHING, problems: [{ at: 'line 3', code: 'value-count' }], received: 96 },
  // One day of three has no values at all.
  'Example_NEM12_incomplete_interval.csv': { problems: [{ at: 'line 3', code: 'value-count' }], received: 145 },
  'Example_NEM12_powercor.csv': powercor('159.984', '213.312', { corrected: 96 }),
  'Example_NEM12_powercor.csv.zip': powercor('53.328', '106.656', { duplicate: 96 }),
  // The oracle cannot read it: the values and their quality are there, and nothing after.
  'Example_NEM12_powercor_missing_fields.csv': powercor('159.984', '213.312', { corrected: 96 }),
  // Three months each: the register at the end of one is that at the start of the next.
  'NEM13_Scenario16_ETSAMDP_NEMMCO.csv': { duplicate: 2, received: 5 },
  'nem13_SCENARIO16_TCAUSTM_NEMMCO.csv': { duplicate: 2, received: 5 },
  'Example_empty_file.csv': { ...NOTHING, refused: { status: 400, code: 'empty-body', says: 'The body is empty.' } },
  'Example_NEM12_empty.csv': NOTHING,
}

function nemFiles({ nem }: Totals): SampleFile[] {
  return [...sampleFiles('nem12'), ...sampleFiles('nem13')].map((file) => {
    const own = ODD_NEM[file.slice(file.lastIndexOf('/') + 1)] ?? {}
    const rows = nem.filter((row) => row.file === file && row.error === undefined)
    if (rows.length === 0 && own.stored === undefined) throw new Error(`totals.nem12.json does not have ${file}`)
    const stored: Sums = new Map()
    for (const { nmi, suffix, total, uom: [uom] } of rows) {
      const unit = unitOf(uom === '' ? 'V' : uom)
      if (unit === undefined) throw new Error(`${file}: unit ${uom}`)
      const isPeriod = /^\d/.test(suffix)
      const [quantity, flow] = LETTERS[isPeriod ? 'E' : suffix.charAt(0)]
  // A period keeps its suffix as the register's label; 12 is energy to the grid, negative as AEMO has it.
      const key = isPeriod ? `period ${quantity} ${suffix === '12' ? 'received' : flow} ${nmi} ${suffix}` : `interval ${quantity} ${flow} ${meterOfStream(nmi, suffix)}`
      stored.set(key, decimal(total, unit.shift))
    }
    return { file, stored, received: own.stored === undefined ? rows.reduce((n, row) => n + row.reads, 0) : 0, ...own }
  })
}

type Parts = Readonly<Record<string, string>>
const energyOf = (meters: Parts): Sums => new Map(Object.entries(meters).map(([meter, kwh]) => [`interval energy delivered ${meter}`, kwh]))

/** What the readers' totals leave open in each Green Button file: whose the energy is, and what the file does not say of itself. */
const GREEN_BUTTON: Readonly<Record<string, Own>> = {
  // Its epochs are the wall clock of standard time.
  'ameren_15min_2023-09-15_2023-10-15.xml': {
    source: { clock: 'local-standard', zone: 'America/Chicago' },
    stored: energyOf({ 'Customer/7546126447783005953/UsagePoint/2729703253975607745': '1645.992' }) },
  'cmdtest_interval_block_1.xml': { source: { unit: 'Wh' }, stored: energyOf({ 'RetailCustomer/1/UsagePoint/1': '93.846' }) },
  // Values of 1 kWh, and 12 of 10^-5 Wh: several multipliers, which the plain sum does not apply.
  'cmdtest_threeusagepointsonecustomer.xml': {
    stored: energyOf({ 'RetailCustomer/1/UsagePoint/1': '31', 'RetailCustomer/1/UsagePoint/2': '35', 'RetailCustomer/1/UsagePoint/3': '33' })
      .set('interval energy received RetailCustomer/1/UsagePoint/1', '0.00000012') },
  'enbridge_gas_2022-12_2024-12.xml': { stored: new Map([['period volume-m3 delivered *', '999']]) },
  'gbo_TestGBDataHourlyNineDaysBinnedDaily.xml': { stored: energyOf({ 'RetailCustomer/2/UsagePoint/2': '199.563' }) },
  'openespi_Usage-Subscription-Feed-Anonymized.xml': NOTHING,
  'openespi_test_usage_data.xml': { stored: energyOf({ 'RetailCustomer/9B6C7066/UsagePoint/5446AF3F': '1391.666' }) },
  'pge_hourly_2011-02_2012-02.xml': { options: { meter: 'house' }, stored: energyOf({ house: '5089.595' }) },
  'sdk_15minLP_15Days.xml': { stored: energyOf({ 'RetailCustomer/9b6c7063/UsagePoint/01': '1397.734' }) },
  'sdk_1dayLP_365Days.xml': { stored: energyOf({ 'RetailCustomer/9b6c7063/UsagePoint/01': '23990.671' }) },
  'sdk_1hrLP_32DaysFiveUsagePoints_M.xml': {
    stored: energyOf({
      'User/9b6c7067/UsagePoint/01': '25326.468', 'User/9b6c7063/UsagePoint/01': '2361.801', 'User/9b6c7064/UsagePoint/01': '2133.834',
      'User/9b6c7065/UsagePoint/01': '2692.638', 'User/9b6c7066/UsagePoint/01': '2224.885',
    }) },
  'sdk_1hrLP_32DaysM_D000_BAD.xml': {
    ...NOTHING, refused: { status: 415, code: 'unsupported-format', at: 'line 53', says: 'The root element "xyz" is none of a format that is read.' } },
  'sdk_hourlyForMonthMar.xml': { stored: energyOf({ 'RetailCustomer/9b6c7063/UsagePoint/01': '2278.213' }) },
}

function greenButtonFiles({ greenButton }: Totals): SampleFile[] {
  return sampleFiles('green_button').map((file) => {
    const row = greenButton.find((other) => other.file === file)
    const own = GREEN_BUTTON[file.slice(file.indexOf('/') + 1)] as Own | undefined
    if (row === undefined || own?.stored === undefined) throw new Error(`there is no total of ${file}`)
    const { n, raw_sum: sum, reading_types: types } = row.plain_sum
    const multipliers = new Set(types.map((type) => Number(type.powerOfTenMultiplier)))
    const isWh = types.every((type) => type.uom === '72')
    if (multipliers.size < 2 && decimal(sum, (isWh ? 3 : 0) - ([...multipliers][0] ?? 0)) !== total(own.stored)) throw new Error(`${file}: ${total(own.stored)} is not its total`)
    return { file, received: n, ...own, stored: own.stored }
  })
}

/** Exact sum of decimals that have no more than 12 digits after the point. */
export function total(sums: ReadonlyMap<string, string>): string {
  let n = 0n
  for (const text of sums.values()) {
    const [whole, part = ''] = text.split('.')
    n += BigInt(whole + part.padEnd(12, '0'))
  }
  const digits = String(n).padStart(13, '0')
  return `${digits.slice(0, -12)}.${digits.slice(-12)}`.replace(/\.?0+$/, '')
}

function cmepFiles({ plain }: Totals): SampleFile[] {
  const results = RESULTS.map((file) => plain[file] as Record<string, [number, number]>)
  return sampleFiles('cmep').filter((file) => !RESULTS.includes(file)).map((file) => {
    const rows = plain[file] as CmepRow[]
    const stored: Sums = new Map()
    for (const { meter, units } of rows) {
      const isRegister = units.endsWith('REG')
      const unit = unitOf(units.replace(/REG$/, '').replace(/^S(?=K)/, ''))
      if (unit === undefined) throw new Error(`${file}: unit ${units}`)
      const same = rows.filter((row) => row.meter === meter && row.units === units)
      const total = same.reduce((sum, row) => sum + row.sum, 0)
      // The importer's results name the meter first, or where the file leaves that field empty, last.
      const imported = results.flatMap((own) => Object.entries(own)).find(([key]) => {
        const [first, kind, last] = key.split('|')
        return kind === units && (first === '' ? last : first) === meter
      })?.[1]
      if (imported === undefined || imported[0] !== same.reduce((n, row) => n + row.count, 0) || decimal(imported[1]) !== decimal(total)) {
        throw new Error(`${file}: the two readers do not agree on ${meter} ${units}`)
      }
      const [quantity] = Object.entries(Quantity).find(([, code]) => code === unit.quantity) ?? ['']
      // S: the register that adds up both flows, kept under that label.
      const label = units.startsWith('SK') ? ' sum' : ''
      stored.set(`${isRegister ? 'register' : 'interval'} ${quantity} delivered ${meter}${label}`, decimal(total, unit.shift))
    }
    return { file, stored, received: rows.reduce((n, row) => n + row.count, 0) }
  })
}

/** The sum of the rows that differ. */
function lclSum(): string {
  const rows = new Set(readFileSync(new URL('csv/lcl_london_MAC000033_2013_30min.csv', samplesFolder), 'utf8').trim().split(/\r?\n/).slice(1))
  return decimal([...rows].reduce((sum, row) => sum + Number(row.split(',')[3]), 0))
}

/** Sums of the files themselves, as the samples' README states them; totals.cmep_csv.json has the one of eemeter. */
function csvFiles({ plain }: Totals): SampleFile[] {
  const eemeter = plain['csv/eemeter_il-electricity-cdd-hdd-hourly.csv.gz'] as { sum: number; lines: number }
  return [
    { file: 'csv/ausgrid_customer12_2011_2012_30min.csv', options: { mapping: 'ausgrid' }, received: 35_136,
      stored: new Map([['interval energy delivered ausgrid', '11876.738'], ['interval energy received ausgrid', '2592.808']]) },
    { file: 'csv/eemeter_il-electricity-cdd-hdd-hourly.csv.gz', options: { mapping: 'eemeter' }, received: eemeter.lines - 1,
      stored: energyOf({ eemeter: decimal(eemeter.sum) }) },
    // 12 rows, one at each month's boundary, are there twice.
    { file: 'csv/lcl_london_MAC000033_2013_30min.csv', options: { mapping: 'lcl' }, received: 17_531, duplicate: 12, stored: energyOf({ MAC000033: lclSum() }) },
    // Four rows of the spring night are blank.
    { file: 'csv/smart_meter_texas_15min_2022-03_2023-01.csv', options: { mapping: 'smart-meter-texas', zone: 'America/Chicago' }, received: 30_720,
      stored: energyOf({ '10443720000000001': '6825.137' }) },
    // Rows for the hour that Dutch clocks skip: the zone is one without daylight saving. Zonnedael in its own is a test apart.
    { file: 'csv/zonnedael_nl_2013H1_15min_56homes_wh.csv', options: { mapping: 'zonnedael', zone: 'Etc/GMT-1' }, received: 973_056,
      stored: new Map([['interval energy delivered *', '99321.634']]) },
    { file: 'csv/badger_beacon360_hourly_water_report.csv', options: { mapping: 'badger-beacon' }, received: 4,
      stored: new Map([['interval volume-gal delivered 1470158170', '10'], ['register volume-ft3 delivered 1470158170', '45520']]) },
  ]
}

function messages(): SampleFile[] {
  return [
    // Power down: an event, and no read.
    { file: 'iec61968_9/landisgyr_created_EndDeviceEvents_not_a_reading.xml', events: 1, received: 1, stored: new Map() },
    // One meterRead that has only a reactive power, and no date.
    { file: 'multispeak/v30ac_ReadingChangedNotification.xml', received: 1, problems: [{ at: 'record 1', code: 'time-missing' }], stored: new Map() },
  ]
}
