import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CommandLine, getJson } from '../command-line.js'
import type { IntervalUsage, LoadReceipt, PeriodUsage } from './shapes.js'

const FILE = fileURLToPath(new URL('../../../shared/samples/csv/smart_meter_texas_15min_2022-03_2023-01.csv', import.meta.url))
const METER = '10443720000000001'

/** Rows by day in file order, mWh so that sums stay whole; null where the kWh is blank. */
function readDays(): Map<string, (number | null)[]> {
  const days = new Map<string, (number | null)[]>()
  for (const line of readFileSync(FILE, 'utf8').trim().split('\n').slice(1)) {
    const [, date, , , , kwh] = line.split(',')
    const [month, day, year] = date.split('/')
    const name = `${year}-${month}-${day}`
    days.set(name, [...days.get(name) ?? [], kwh.trim() === '' ? null : Math.round(Number(kwh) * 1000)])
  }
  return days
}

const days = [...readDays()].sort(([a], [b]) => a < b ? -1 : 1)
const sum = (values: readonly (number | null)[]): number => values.reduce<number>((a, b) => a + (b ?? 0), 0)

describe('the Smart Meter Texas file', () => {
  let program: CommandLine
  let url: string
  const get = <T>(query: string): Promise<T> => getJson<T>(url, program.operatorKey(), `/v1/meters/${METER}/usage?${query}`)

  beforeAll(async () => {
    program = new CommandLine({ UTILITY_ZONE: 'America/Chicago' })
    writeFileSync(`${program.dir}/meters.csv`, `meter\n${METER}\n`)
    expect(await program.run(['register', `${program.dir}/meters.csv`])).toMatchObject({ code: 0 })
    url = await program.serve()
  })
  afterAll(() => program.close())

  it('is loaded through a running server, blanks left out', async () => {
    const key = program.operatorKey()
    const done = await program.run(['load', FILE, '--mapping', 'smart-meter-texas', '--url', url, '--key', key, '--json'])
    expect(done, done.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(done.stdout) as LoadReceipt).toMatchObject({ received: 30_720, stored: 30_720, quarantined: 0, rejected: 0 })
  })

  it('is its own total, by month and by day', async () => {
    const months = await get<PeriodUsage>('from=2022-03-01&to=2023-02-01&resolution=month')
    expect(months.total.delivered).toBe(6825.137)
    const byDay = await get<PeriodUsage>('from=2022-03-01&to=2023-01-15&resolution=day')
    expect(byDay.series[0].periods.map((p) => [p.start.slice(0, 10), p.value])).toEqual(
      days.map(([day, values]) => [day, sum(values) / 1000]))
  })

  it('has 92 quarter hours on the spring day and 100 on the autumn day, none of them made up', async () => {
    const spring = await get<IntervalUsage>('from=2022-03-13&to=2022-03-14&resolution=interval')
    const rows = days.find(([day]) => day === '2022-03-13')![1]
    expect(rows.length).toBe(96)
    expect(rows.filter((v) => v === null).length).toBe(4)
    expect(spring.series[0].values).toEqual(rows.filter((v) => v !== null).map((v) => v / 1000))
    expect(spring.missing).toBe(0)
    const autumn = await get<IntervalUsage>('from=2022-11-06&to=2022-11-07&resolution=interval')
    expect(autumn.series[0].values).toEqual(days.find(([day]) => day === '2022-11-06')![1].map((v) => v! / 1000))
    expect(autumn.series[0].values.length).toBe(100)
  })

  it('is empty, not zero, where the file ends', async () => {
    const after = await get<PeriodUsage>('from=2023-01-20&to=2023-01-21&resolution=day')
    expect(after.series[0].periods.map((p) => [p.value, p.missing])).toEqual([[null, 96]])
  })
})
