import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { getZone } from '../../engine/time/zone.js'
import { csv } from './csv.js'
import { shippedMapping } from './mappings.js'
import { exactTotal, readsOf } from '../../test/format-reads.js'

const folder = new URL('../../../shared/samples/csv/', import.meta.url)

function load(file: string, mapping: string, zone: string | null) {
  const bytes = readFileSync(new URL(file, folder))
  const body = file.endsWith('.gz') ? gunzipSync(bytes) : bytes
  return csv.decode(body, { zone: zone === null ? null : getZone(zone), mapping: shippedMapping(mapping) }, null, true)
}

describe('the Zonnedael file', () => {
  const file = 'zonnedael_nl_2013H1_15min_56homes_wh.csv'

  it('is 973,056 reads and its own total in a zone without daylight saving', () => {
    const { batch, problems } = load(file, 'zonnedael', 'Etc/GMT-1')
    expect(problems).toEqual([])
    const reads = readsOf(batch)
    expect(reads.length).toBe(973_056)
    expect(new Set(batch.meters).size).toBe(56)
    expect(exactTotal(reads)).toBe('99321.634')
    expect(batch.count).toBe(56)
  })

  it('has exactly the 224 reads of the skipped hour quarantined in Europe/Amsterdam', () => {
    const { batch, problems } = load(file, 'zonnedael', 'Europe/Amsterdam')
    expect(problems.length).toBe(224)
    expect(new Set(problems.map(problem => problem.code))).toEqual(new Set(['local-time-does-not-exist']))
    expect(problems.reduce((n, problem) => n + problem.reads, 0)).toBe(224)
    expect(readsOf(batch).length).toBe(973_056 - 224)
    expect(problems[0]).toMatchObject({ meter: 'Klant 2', at: 'line 8554' })
    expect(JSON.parse(problems[0].record ?? '')).toMatchObject({
      meter: 'Klant 2', start: '2013-03-31T02:00:00', intervalSeconds: 900, values: [0.047],
    })
  })
})

describe('the Smart Meter Texas file', () => {
  const { batch, problems } = load('smart_meter_texas_15min_2022-03_2023-01.csv', 'smart-meter-texas', 'America/Chicago')
  const reads = readsOf(batch)

  it('is its own total; the blank rows of the spring night are no reads', () => {
    expect(problems).toEqual([])
    expect(reads.length).toBe(30_720)
    expect(exactTotal(reads)).toBe('6825.137')
    expect(new Set(batch.meters)).toEqual(new Set(['10443720000000001']))
  })

  it('has a read for every quarter hour of its 320 days, the autumn day of 100 too', () => {
    const starts = reads.map(read => read.startS).sort((a, b) => a - b)
    expect(new Date(starts[0] * 1000).toISOString()).toBe('2022-03-01T06:00:00.000Z')
    for (let i = 1; i < starts.length; i++) expect(starts[i] - starts[i - 1]).toBe(900)
  })

  it('has both passes of the repeated hour in file order', () => {
    const at = (text: string) => reads.find(read => read.startS === Date.parse(text) / 1000)?.kwh
    expect(['01:00', '01:15', '01:30', '01:45'].map(time => at(`2022-11-06T${time}:00-05:00`))).toEqual([0.041, 0.034, 0.044, 0.044])
    expect(['01:00', '01:15', '01:30', '01:45'].map(time => at(`2022-11-06T${time}:00-06:00`))).toEqual([0.034, 0.042, 0.044, 0.041])
    expect(at('2022-11-06T02:00:00-06:00')).toBe(0.035)
  })

  it('has the revision date, local time, as its version', () => {
    const read = reads.find(({ startS }) => startS === Date.parse('2022-11-06T12:00:00-06:00') / 1000)
    expect(read?.version).toBe(Date.parse('2022-11-07T09:40:14-06:00') * 1000)
  })
})

describe('other real files', () => {
  it('reads Low Carbon London, its repeated rows too', () => {
    const { batch, problems } = load('lcl_london_MAC000033_2013_30min.csv', 'lcl', 'Europe/London')
    expect(problems).toEqual([])
    expect(readsOf(batch).length).toBe(17_531)
    expect(exactTotal(readsOf(batch))).toBe('2748.9550002')
  })

  it('reads Ausgrid, binary noise snapped', () => {
    const { batch, problems } = load('ausgrid_customer12_2011_2012_30min.csv', 'ausgrid', null)
    expect(problems).toEqual([])
    const reads = readsOf(batch)
    expect(exactTotal(reads.filter(read => read.flow === 1))).toBe('11876.738')
    expect(exactTotal(reads.filter(read => read.flow === 2))).toBe('2592.808')
  })

  it('reads eemeter', () => {
    const { batch, problems } = load('eemeter_il-electricity-cdd-hdd-hourly.csv.gz', 'eemeter', null)
    expect(problems).toEqual([])
    expect(readsOf(batch).length).toBe(19_417)
    expect(exactTotal(readsOf(batch))).toBe('21927.130')
  })
})
