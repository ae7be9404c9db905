import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CommandLine } from '../command-line.js'
import { testDatabase, type TestDatabase } from '../database.js'

const folder = new URL('../../../shared/samples/', import.meta.url)

interface Known {
  file: string
  reads: number
  /** kWh per flow, or what periods came to. */
  sums: Readonly<Record<string, string>>
  source?: object
  meter?: string
  zone?: string
}

/** What totals.green_button.json says, in energy; the settings that each file needs. */
const files: readonly Known[] = [
  { file: 'ameren_15min_2023-09-15_2023-10-15.xml', reads: 2976, sums: { delivered: '1645.992' }, source: { clock: 'local-standard' }, zone: 'America/Chicago' },
  { file: 'cmdtest_interval_block_1.xml', reads: 96, sums: { delivered: '93.846' }, source: { unit: 'Wh' } },
  { file: 'cmdtest_threeusagepointsonecustomer.xml', reads: 240, sums: { delivered: '99', received: '0.00000012' } },
  { file: 'enbridge_gas_2022-12_2024-12.xml', reads: 20, sums: { period: '999' } },
  { file: 'gbo_TestGBDataHourlyNineDaysBinnedDaily.xml', reads: 216, sums: { delivered: '199.563' } },
  { file: 'openespi_Usage-Subscription-Feed-Anonymized.xml', reads: 0, sums: {} },
  { file: 'openespi_test_usage_data.xml', reads: 1340, sums: { delivered: '1391.666' } },
  { file: 'pge_hourly_2011-02_2012-02.xml', reads: 8727, sums: { delivered: '5089.595' }, meter: 'house' },
  { file: 'sdk_15minLP_15Days.xml', reads: 1340, sums: { delivered: '1397.734' } },
  { file: 'sdk_1dayLP_365Days.xml', reads: 366, sums: { delivered: '23990.671' } },
  { file: 'sdk_1hrLP_32DaysFiveUsagePoints_M.xml', reads: 3840, sums: { delivered: '34739.626' } },
  { file: 'sdk_hourlyForMonthMar.xml', reads: 743, sums: { delivered: '2278.213' } },
]

let db: TestDatabase
let program: CommandLine
let url: string

const isThere = existsSync(folder)
const call = async (method: string, path: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) => {
  const answer = await fetch(`${url}${path}`, { method, body, headers: { authorization: `Bearer ${program.operatorKey()}`, 'content-type': 'application/json', ...headers } })
  return { status: answer.status, body: await answer.json() as Record<string, unknown> }
}

beforeAll(async () => {
  if (!isThere) return
  db = await testDatabase()
  program = new CommandLine({ DATABASE_URL: db.url, UTILITY_ZONE: 'America/New_York' })
  url = await program.serve()
})
afterAll(async () => {
  if (!isThere) return
  await program.close()
  await db.close()
})

/** Sums of all that is stored. */
async function stored(): Promise<Record<string, string>> {
  const { rows } = await db.pool.query<{ what: string; sum: string }>(`
    select case flow when 1 then 'delivered' else 'received' end as what, trim_scale(sum(total * 10::numeric ^ exponent))::text as sum
      from channel_day join channel using (channel_id) where quantity = 1 group by 1
    union all select 'period', trim_scale(sum(value))::text from period_read having count(*) > 0`)
  return Object.fromEntries(rows.map((r) => [r.what, r.sum]))
}

async function forgetAll(): Promise<void> {
  await db.pool.query('truncate channel_day, period_read, register_read')
}

describe.skipIf(!isThere)('Green Button files of others', () => {
  it.each(files)('$file settles by HTTP and by command to its totals', async ({ file, reads, sums, source = {}, meter, zone }) => {
    const path = fileURLToPath(new URL(`green_button/${file}`, folder))
    const name = file.slice(0, 40)
    await call('PUT', `/v1/sources/${name}`, JSON.stringify({ unknownMeters: 'register', ...source, ...zone === undefined ? {} : { zone } }))
    const query = meter === undefined ? '' : `?meter=${meter}`
    const pushed = await call('POST', `/v1/reads${query}`, new Uint8Array(readFileSync(path)), { 'content-type': 'application/xml', 'x-source': name })
    expect(pushed, JSON.stringify(pushed.body)).toMatchObject({ status: 200, body: { received: reads, stored: reads, rejected: 0, quarantined: 0 } })
    expect(await stored()).toEqual(sums)
    await forgetAll()
    const loaded = await program.run(['load', path, '--source', name, '--json', ...meter === undefined ? [] : ['--meter', meter]])
    expect(loaded.code, loaded.stderr).toBe(0)
    expect(JSON.parse(loaded.stdout)).toMatchObject({ received: reads, stored: reads })
    expect(await stored()).toEqual(sums)
    await forgetAll()
  })

  it('that are bad are refused with the place and the reason, by both', async () => {
    const path = fileURLToPath(new URL('green_button/sdk_1hrLP_32DaysM_D000_BAD.xml', folder))
    const pushed = await call('POST', '/v1/reads', new Uint8Array(readFileSync(path)), { 'content-type': 'application/xml' })
    expect(pushed).toMatchObject({ status: 415, body: { code: 'unsupported-format', at: 'line 53' } })
    const loaded = await program.run(['load', path, '--json'])
    expect(loaded.code).toBe(1)
    expect(loaded.stderr).toContain('The root element "xyz" is none of a format that is read.')
  })
})
