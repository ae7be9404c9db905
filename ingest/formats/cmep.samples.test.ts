import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { exactTotal, readsOf, registersOf } from '../../test/format-reads.js'
import { samplesFolder } from '../../test/samples/nem.js'
import { cmep } from './cmep.js'

/** What a plain split makes of the records of each file, and an independent importer's output of the same. */
interface Row { meter: string; units: string; count: number; sum: number; first: string; last: string }
const oracle = JSON.parse(readFileSync(new URL('totals.cmep_csv.json', samplesFolder), 'utf8')) as Record<string, Row[] | Record<string, [number, number]>>
const decode = (file: string) => cmep.decode(new Uint8Array(readFileSync(new URL(file, samplesFolder))), { zone: null }, null, true)
const stamp = (iso: string): string => iso.replaceAll(/\D/g, '').slice(0, 12)

describe('the Sensus file', () => {
  const file = 'cmep/sensus_2011_hourly_gal_kwh_registers.cmep'
  const decoded = decode(file)
  const registers = registersOf(decoded.registers)

  it('is five meters\' registers and no interval', () => {
    expect(decoded.problems).toEqual([])
    expect(decoded.batch.count).toBe(0)
    const rows = oracle[file] as Row[]
    expect(rows).toHaveLength(5)
    for (const row of rows) {
      const own = registers.filter(([meter]) => meter === row.meter)
      expect(own).toHaveLength(row.count)
      expect(own.reduce((sum, r) => sum + Number(r[5]), 0)).toBe(row.sum)
      expect([stamp(own[0][4]), stamp(own.at(-1)![4])]).toEqual([row.first, row.last])
      expect(new Set(own.map((r) => `${r[1]} ${r[3]}`))).toEqual(new Set([row.units === 'GALREG' ? 'volume-gal ' : 'energy sum']))
    }
  })

  it('steps back where the water registers do', () => {
    const steps = registers.filter((r, i) => i > 0 && registers[i - 1][0] === r[0] && Number(r[5]) < Number(registers[i - 1][5]))
    expect(steps).toHaveLength(4)
  })

  it('agrees with the importer', () => {
    const importer = oracle['cmep/oracle/sensus_2011.importer_output.csv'] as Record<string, [number, number]>
    expect(Object.values(importer).reduce((n, [count]) => n + count, 0)).toBe(registers.length)
  })
})

describe('the SmartSynch file', () => {
  const file = 'cmep/smartsynch_2009_15min_kwh_kvarh.cmep'
  const decoded = decode(file)

  it('is a day of energy, a day of reactive energy and two registers', () => {
    expect(decoded.problems).toEqual([])
    const importer = oracle['cmep/oracle/smartsynch_2009.importer_output.csv'] as Record<string, [number, number]>
    const of = (quantity: number) => {
      const { batch } = decoded
      const reads = readsOf({ ...batch, values: batch.values.map((v, i) => {
        for (let b = 0; b < batch.count; b++) if (i >= batch.offset[b] && i < batch.offset[b] + batch.length[b]) return batch.quantity[b] === quantity ? v : -2147483648
        return v
      }) })
      return [reads.length, exactTotal(reads), new Date(reads[0].startS * 1000).toISOString().slice(0, 16)]
    }
    expect(of(1)).toEqual([96, '9.12878', '2009-08-16T08:00'])
    expect(of(2)).toEqual([96, '5.80476', '2009-08-16T08:00'])
    expect(importer['05550268|KWH|1084P410']).toEqual([96, 9.12878])
    expect(importer['05550268|KVARH|1084P410']).toEqual([96, 5.80476])
    expect(registersOf(decoded.registers)).toEqual([
      ['05550268', 'energy', 1, '', '2009-08-17T08:07', '5897.11432'], ['05550268', 'reactive-energy', 1, '', '2009-08-17T08:07', '4351.11187']])
  })
})
