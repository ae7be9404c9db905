import { describe, expect, it } from 'vitest'
import { sourceSettings, type SourceSettings } from '../engine/source-settings.js'
import { bytesOf, readsOf } from '../test/format-reads.js'
import { decodeContext } from './decode-context.js'
import { csv } from './formats/csv.js'
import { json } from './formats/json.js'

const nothing = { zone: null, mapping: null }

function starts(settings: Partial<SourceSettings>, times: readonly string[], intervalSeconds = 3600): string[] {
  const context = decodeContext(sourceSettings(settings), 'America/Chicago', nothing)
  const rows = ['meter,start,value', ...times.map((t) => `M1,${t},1`)].join('\n')
  const asCsv = csv.decode(bytesOf(rows), { ...context, defaultIntervalS: intervalSeconds }, null, true)
  const asJson = json.decode(bytesOf(JSON.stringify(times.map((start) => ({ meter: 'M1', start, value: 1, intervalSeconds })))), context, null, true)
  const of = (decoded: typeof asCsv): string[] => readsOf(decoded.batch).map((r) => new Date(r.startS * 1000).toISOString().slice(5, 16)).sort()
  expect(of(asJson)).toEqual(of(asCsv))
  expect(asCsv.problems.length).toBe(asJson.problems.length)
  return of(asCsv)
}

describe('the clock setting', () => {
  const summer = ['2026-07-01T00:00:00', '2026-07-01T01:00:00Z']

  it('tells times without an offset by the utility\'s zone where nothing is said', () => {
    expect(starts({}, summer)).toEqual(['07-01T01:00', '07-01T05:00'])
    expect(starts({ clock: 'local-prevailing', zone: 'America/Denver' }, summer)).toEqual(['07-01T01:00', '07-01T06:00'])
  })

  it('utc and standard time have no hour that is skipped or repeated', () => {
    expect(starts({ clock: 'utc' }, summer)).toEqual(['07-01T00:00', '07-01T01:00'])
    expect(starts({ clock: 'local-standard' }, summer)).toEqual(['07-01T01:00', '07-01T06:00'])
    expect(starts({ clock: 'local-standard' }, ['2026-03-08T02:30:00', '2026-11-01T01:30:00'])).toEqual(['03-08T08:30', '11-01T07:30'])
  })

  it('takes stamps that say UTC for the wall clock where the source writes that', () => {
    expect(starts({ clock: 'wall-as-epoch' }, ['2026-07-01T01:00:00Z', '2026-07-01T01:00:00-05:00', '2026-01-01T01:00:00Z']))
      .toEqual(['01-01T07:00', '07-01T06:00', '07-01T06:00'])
  })

  it('leaves the days of daily reads the utility\'s', () => {
    const context = decodeContext(sourceSettings({ clock: 'utc' }), 'America/Chicago', nothing)
    const block = { meter: 'M1', start: '2026-10-31T05:00:00Z', intervalSeconds: 86_400, values: [1, 2, 3] }
    const { batch } = json.decode(bytesOf(JSON.stringify([block])), context, null, true)
    expect(Array.from(batch.startS.subarray(0, batch.count), (s) => new Date(s * 1000).toISOString().slice(0, 13)))
      .toEqual(['2026-10-31T05', '2026-11-02T06'])
  })
})
