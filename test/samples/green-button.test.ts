import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { getZone, standardTime } from '../../engine/time/zone.js'
import { espi } from '../../ingest/formats/espi.js'
import { detectFormat, type DecodeContext } from '../../ingest/formats/format.js'
import { exactTotal, readsOf, received, registerTotal } from '../format-reads.js'

const folder = new URL('../../../shared/samples/green_button/', import.meta.url)

interface Known {
  file: string
  ctx?: Partial<DecodeContext>
  /** Reads and kWh per meter and flow, as totals.green_button.json has them. */
  reads: number
  kwh: Readonly<Record<string, string>>
  /** Quality lanes and how many reads have them; all plain where it is left out. */
  lanes?: Readonly<Record<number, number>>
  /** Periods longer than a day, and what they came to. */
  periods?: { count: number, total: string }
}

/** Not a feed at all. */
const bad = 'sdk_1hrLP_32DaysM_D000_BAD.xml'

interface Total {
  file: string
  plain_sum: { n: number, raw_sum: number, reading_types: { powerOfTenMultiplier: string }[] }
}

const chicago = getZone('America/Chicago')
/** Its epochs are the wall clock of standard time. */
const ameren: Partial<DecodeContext> = { zone: standardTime(chicago), dayZone: chicago, clock: 'local-standard' }
const newYork = getZone('America/New_York')

const files: readonly Known[] = [
  {
    file: 'ameren_15min_2023-09-15_2023-10-15.xml', ctx: ameren,
    reads: 2976, kwh: { 'Customer/7546126447783005953/UsagePoint/2729703253975607745 1': '1645.992' }, lanes: { 4: 2976 },
  },
  {
    file: 'cmdtest_interval_block_1.xml', ctx: { defaultUnit: 'Wh' }, reads: 96,
    kwh: { 'RetailCustomer/1/UsagePoint/1 1': '93.846' }, lanes: { 0: 94, 1: 1, 5: 1 },
  },
  {
    // One of its ReadingTypes says bulkQuantity of what are intervals of an hour.
    file: 'cmdtest_threeusagepointsonecustomer.xml', reads: 240, kwh: {
      'RetailCustomer/1/UsagePoint/1 1': '31.000', 'RetailCustomer/1/UsagePoint/1 2': '0.00000012',
      'RetailCustomer/1/UsagePoint/2 1': '35.000', 'RetailCustomer/1/UsagePoint/3 1': '33.000',
    },
  },
  { file: 'enbridge_gas_2022-12_2024-12.xml', reads: 0, kwh: {}, periods: { count: 20, total: '999.000' } },
  { file: 'gbo_TestGBDataHourlyNineDaysBinnedDaily.xml', reads: 216, kwh: { 'RetailCustomer/2/UsagePoint/2 1': '199.563' } },
  { file: 'openespi_Usage-Subscription-Feed-Anonymized.xml', reads: 0, kwh: {} },
  {
    file: 'openespi_test_usage_data.xml', reads: 1340, kwh: { 'RetailCustomer/9B6C7066/UsagePoint/5446AF3F 1': '1391.666' },
    lanes: { 0: 1338, 1: 1, 5: 1 },
  },
  { file: 'pge_hourly_2011-02_2012-02.xml', ctx: { meter: 'house' }, reads: 8727, kwh: { 'house 1': '5089.595' } },
  { file: 'sdk_15minLP_15Days.xml', reads: 1340, kwh: { 'RetailCustomer/9b6c7063/UsagePoint/01 1': '1397.734' } },
  {
    file: 'sdk_1dayLP_365Days.xml', ctx: { zone: newYork }, reads: 366,
    kwh: { 'RetailCustomer/9b6c7063/UsagePoint/01 1': '23990.671' },
  },
  {
    file: 'sdk_1hrLP_32DaysFiveUsagePoints_M.xml', reads: 3840, kwh: {
      'User/9b6c7067/UsagePoint/01 1': '25326.468', 'User/9b6c7063/UsagePoint/01 1': '2361.801',
      'User/9b6c7064/UsagePoint/01 1': '2133.834', 'User/9b6c7065/UsagePoint/01 1': '2692.638',
      'User/9b6c7066/UsagePoint/01 1': '2224.885',
    },
  },
  { file: 'sdk_hourlyForMonthMar.xml', reads: 743, kwh: { 'RetailCustomer/9b6c7063/UsagePoint/01 1': '2278.213' } },
]

function load(file: string): Uint8Array {
  return readFileSync(new URL(file, folder))
}

function decode(file: string, ctx: Partial<DecodeContext> = {}) {
  const bytes = load(file)
  const format = detectFormat('application/xml', undefined, undefined, bytes)
  expect(format).toBe(espi)
  return format.decode(bytes, { zone: null, ...ctx }, null, true)
}

describe.skipIf(!existsSync(folder))('Green Button files of others', () => {
  it.each(files)('$file has its known reads and energy', ({ file, ctx, reads, kwh, lanes, periods }) => {
    const decoded = decode(file, ctx)
    const all = readsOf(decoded.batch)
    expect(all.length).toBe(reads)
    expect(decoded.problems).toEqual([])
    expect(decoded.registers.count).toBe(periods?.count ?? 0)
    expect(registerTotal(decoded.registers)).toBe(periods?.total ?? '0.000')
    const sums: Record<string, string> = {}
    for (const key of new Set(all.map(read => `${read.meter} ${read.flow}`))) {
      sums[key] = exactTotal(all.filter(read => `${read.meter} ${read.flow}` === key))
    }
    expect(sums).toEqual(kwh)
    const counts: Record<number, number> = {}
    for (const { lane } of all) counts[lane] = (counts[lane] ?? 0) + 1
    expect(counts).toEqual(lanes ?? (reads > 0 ? { 0: reads } : {}))
  })

  it('agree with the totals of the independent readers', () => {
    const totals = JSON.parse(readFileSync(new URL('../totals.green_button.json', folder), 'utf8')) as Total[]
    expect(totals.map(({ file }) => file.replace('green_button/', '')).sort()).toEqual([...files.map(({ file }) => file), bad].sort())
    for (const { file, ctx, periods } of files) {
      const { plain_sum: sum } = totals.find(total => total.file === `green_button/${file}`) ?? {}
      const decoded = decode(file, ctx)
      const all = readsOf(decoded.batch)
      expect(received(decoded)).toBe(sum?.n)
      const multipliers = new Set(sum?.reading_types.map(type => type.powerOfTenMultiplier))
      // With one multiplier in the file its plain sum is the energy.
      if (multipliers.size > 1 || periods !== undefined) continue
      expect(exactTotal(all)).toBe(((sum?.raw_sum ?? NaN) / 1000).toFixed(3))
    }
  })

  it('put the wall clock of Ameren Illinois where it belongs', () => {
    const { batch } = decode('ameren_15min_2023-09-15_2023-10-15.xml', ameren)
    expect(new Date(Math.min(...readsOf(batch).map(read => read.startS)) * 1000).toISOString()).toBe('2023-09-15T05:00:00.000Z')
  })

  it('are refused with the place and the reason where they are bad', () => {
    expect(() => detectFormat('application/xml', undefined, undefined, load(bad))).toThrow(expect.objectContaining({
      status: 415, code: 'unsupported-format', message: 'The root element "xyz" is none of a format that is read.',
      extra: expect.objectContaining({ at: 'line 53' }) as unknown,
    }))
    expect(() => decode('cmdtest_interval_block_1.xml')).toThrow(expect.objectContaining({
      status: 422, code: 'unit-not-stated', extra: expect.objectContaining({ at: 'record 1' }) as unknown,
    }))
    expect(() => decode('pge_hourly_2011-02_2012-02.xml')).toThrow(expect.objectContaining({
      status: 422, code: 'meter-not-stated', extra: expect.objectContaining({ at: 'record 1' }) as unknown,
    }))
  })
})
