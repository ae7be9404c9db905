import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { sampleFiles, samplesFolder, streamTotals } from '../../test/samples/nem.js'
import { readsOf, received } from '../../test/format-reads.js'
import { unzipSync } from 'fflate'
import { detectFormat } from './format.js'
import { nem12 } from './nem12.js'

/** What independent readers (nem-reader) make of each file: one row per meter and suffix. */
interface Row { file: string; nmi: string; suffix: string; reads: number; total: number; version: string; uom: string[]; quality: Record<string, number>; error?: string }

const rows = JSON.parse(readFileSync(new URL('totals.nem12.json', samplesFolder), 'utf8')) as Row[]
const decode = (bytes: Uint8Array) => nem12.decode(bytes, { zone: null }, null, true)
const bodies = (file: string): Uint8Array[] => {
  const bytes = new Uint8Array(readFileSync(new URL(file, samplesFolder)))
  return file.endsWith('.zip') ? Object.values(unzipSync(bytes)) : [bytes]
}

/** Files that are wrong: the place and the reason, and the reads that it costs. Those of `invalid/` that are not here are only odd. */
const BAD: Record<string, { at: string; code: string; reads: number }> = {
  'nem12/invalid/Example_NEM12_15min_200_30min_300.csv': { at: 'line 3', code: 'value-count', reads: 48 },
  'nem12/invalid/Example_NEM12_15min_200_30min_400.csv': { at: 'line 3', code: 'quality-range', reads: 72 },
  'nem12/invalid/Example_NEM12_30min_200_15min_300.csv': { at: 'line 3', code: 'value-count', reads: 96 },
  'nem12/invalid/Example_NEM12_30min_200_15min_400.csv': { at: 'line 3', code: 'value-count', reads: 96 },
  'nem12/invalid/Example_NEM12_incomplete_interval.csv': { at: 'line 3', code: 'value-count', reads: 1 },
}
const files = [...sampleFiles('nem12'), ...sampleFiles('nem13')]

describe('every NEM12 and NEM13 file', () => {
  it.each(files.filter((file) => !file.endsWith('Example_empty_file.csv')))('%s', (file) => {
    const decoded = bodies(file).map(decode)
    const problems = decoded.flatMap((d) => d.problems)
    const bad = BAD[file]
    expect(problems.map((p) => ({ at: p.at, code: p.code, reads: p.reads }))).toEqual(bad === undefined ? [] : [bad])
    const known = rows.filter((r) => r.file === file && r.error === undefined)
    // Files in which the reader itself says that it read what it should not have.
    if (bad !== undefined && !file.includes('incomplete_interval')) return
    const totals = streamTotals(decoded)
    expect(decoded.reduce((n, d) => n + received(d), 0)).toBeGreaterThanOrEqual(known.length)
    const expected = new Map<string, string>()
    // The oracle sums in the file's unit; here Wh and VArh are 10^-3 of the unit kept.
    for (const r of known) expected.set(`${r.nmi} ${r.suffix}`, (/^(?:Wh|VArh)$/i.test(r.uom[0]) ? r.total / 1000 : r.total).toFixed(3))
    if (file.endsWith('missing_fields.csv')) {
      // The oracle cannot read it: all 48 values and their quality are there, and nothing after.
      expect(Object.fromEntries(totals)).toEqual({ 'VABD000163 E1': '213.312', 'VABD000163 Q1': '319.968' })
      return
    }
    expect(Object.fromEntries(totals)).toEqual(Object.fromEntries(expected))
  })

  it('is told from its first bytes, but for one without any', () => {
    for (const file of files.filter((f) => !f.endsWith('Example_empty_file.csv') && !f.endsWith('.zip'))) {
      expect([file, detectFormat('text/csv', undefined, 'x.csv', bodies(file)[0]).name]).toEqual([file, 'nem12'])
    }
    expect(received(decode(bodies('nem12/invalid/Example_empty_file.csv')[0]))).toBe(0)
  })

  it('has N days of reads by range as nulls', () => {
    const [file] = files.filter((f) => f.endsWith('Example_NEM12_multiple_quality.csv'))
    const [decoded] = bodies(file).map(decode)
    const lanes = readsOf(decoded.batch).map((r) => r.lane)
    expect([lanes.filter((l) => l === 0).length, lanes.filter((l) => l === 1).length]).toEqual([4, 44])
  })
})
