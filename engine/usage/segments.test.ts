import { afterAll, beforeAll, expect, it } from 'vitest'
import { takeAnyDay, testDatabase, type TestDatabase } from '../../test/database.js'
import { testUtility, type PlainBlock } from '../../test/settling.js'
import { judgeDue } from '../thresholds/sweep.js'
import { dayNumber } from '../time/text.js'
import { loadSegments } from './segments.js'

let db: TestDatabase
beforeAll(async () => {
  db = await testDatabase()
  await takeAnyDay(db)
})
afterAll(async () => db.close())

it('a re-programmed meter is metered between its channels, and before the first: what is not read there is missing', async () => {
  const u = await testUtility(db.pool)
  const { accountId } = await u.account()
  await u.meter({ id: 'm', assignments: [{ accountId }] })
  const limit = '0.001'
  const id = await u.threshold(accountId, { flow: 'net', limit })
  const day = dayNumber('2026-10-05')
  const at = (d: number): number => u.zone.dayStart(day + d)
  const received = (intervalS: number, start: number): PlainBlock => ({ meter: 'm', flow: 'received', intervalS, start, values: [1] })
  await u.settle([{ meter: 'm', start: at(0), values: new Array<number>(5 * 96).fill(1) }])
  // Received energy by quarter-hours, then nothing for a day, then by hours.
  await u.settle([received(900, at(1)), received(3600, at(3))])
  expect((await loadSegments(db.pool, [accountId])).filter((s) => s.flow === 2).map((s) => [s.intervalS, s.fromS, s.toS]))
    .toEqual([[900, 0, at(3)], [3600, at(3), Infinity]])
  await judgeDue(db.pool, { secrets: u.world.secrets, settleS: 48 * 3600, now: () => u.clock.nowMs })
  const { rows } = await db.pool.query(
    `select extract(epoch from period_start)::float8 as start_s, trim_scale(value)::text as value, expected, present
       from alert where threshold_id = $1 and state = 'raised' order by 1`, [id])
  expect(rows).toEqual([
    { start_s: at(0), value: '0.096', expected: 192, present: 96 }, { start_s: at(1), value: '0.095', expected: 192, present: 97 },
    { start_s: at(2), value: '0.096', expected: 192, present: 96 }, { start_s: at(3), value: '0.095', expected: 120, present: 97 },
    { start_s: at(4), value: '0.096', expected: 120, present: 96 }])
})
