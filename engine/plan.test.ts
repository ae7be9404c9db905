import { describe, expect, it } from 'vitest'
import { registryOf } from '../test/registry-stub.js'
import { batchOf, type PlainBlock } from '../test/settling.js'
import { planBatch, type Plan, type PlanContext } from './plan.js'
import { MISSING, type ReadBatch } from './read-batch.js'
import { dayText } from './time/text.js'
import { getZone } from './time/zone.js'

const NOW_S = Date.parse('2026-11-20T12:00:00Z') / 1000

async function planned(blocks: PlainBlock[], context: Partial<PlanContext> = {}): Promise<{ plan: Plan; batch: ReadBatch }> {
  const batch = batchOf(blocks)
  const plan = planBatch(batch, {
    map: await registryOf({ m: 1, m80: 80, third: 0.333333333 }), zone: getZone('America/Chicago'), nowS: NOW_S, horizonDay: -Infinity, toleranceS: 5,
    unknownMeters: 'quarantine', multiplierApplied: true, delivery: 0, ...context })
  return { plan, batch }
}

function shape(plan: Plan): unknown[] {
  return plan.pieces.map((p) => [dayText(p.day), p.slot, p.count, p.slots, p.offset])
}

describe('pieces', () => {
  it('end at local midnights, also on the days that are longer or shorter', async () => {
    const { plan } = await planned([{ meter: 'm', start: '2026-10-31T23:00:00-05:00', values: Array<number>(4 + 100 + 2).fill(1) }])
    expect(shape(plan)).toEqual([['2026-10-31', 92, 4, 96, 0], ['2026-11-01', 0, 100, 100, 4], ['2026-11-02', 0, 2, 96, 104]])
    expect([plan.fromS, plan.toS]).toEqual([Date.parse('2026-11-01T04:00:00Z') / 1000, Date.parse('2026-11-02T06:30:00Z') / 1000])
  })

  it('are none where nothing but gaps would be', async () => {
    const { plan } = await planned([{ meter: 'm', start: '2026-10-05T05:00:00Z', values: [...Array<null>(96).fill(null), 1] }])
    expect(shape(plan)).toEqual([['2026-10-06', 0, 1, 96, 96]])
  })

  it('of hourly reads in zones of half hours keep their own grid', async () => {
    for (const [zone, start] of [['Asia/Kolkata', '2026-10-05T00:00:00+05:30'], ['Asia/Kathmandu', '2026-10-05T00:00:00+05:45']]) {
      const local = await planned([{ meter: 'm', start, values: Array<number>(24).fill(1), intervalS: 3600 }], { zone: getZone(zone) })
      expect(shape(local.plan)).toEqual([['2026-10-05', 0, 24, 24, 0]])
      const utc = await planned([{ meter: 'm', start: '2026-10-04T18:00:00Z', values: Array<number>(25).fill(1), intervalS: 3600 }], { zone: getZone(zone) })
      expect(shape(utc.plan)).toEqual([['2026-10-04', 23, 1, 24, 0], ['2026-10-05', 0, 24, 24, 1]])
    }
  })
})

describe('the grid', () => {
  it('takes starts within the tolerance, and counts the reads that it moved', async () => {
    const { plan } = await planned([
      { meter: 'm', start: '2026-10-05T05:00:04Z', values: [1, null, 3] },
      { meter: 'm', start: '2026-10-05T04:59:55Z', values: [1] },
      { meter: 'm', start: '2026-10-05T04:59:56Z', values: [5], intervalS: 86_400 },
    ])
    expect(shape(plan)).toEqual([['2026-10-05', 0, 3, 96, 0], ['2026-10-05', 0, 1, 96, 3], ['2026-10-05', 0, 1, 1, 4]])
    expect([plan.snapped, plan.problems]).toEqual([4, []])
  })

  it('refuses what lies beside it, as a whole block with its record', async () => {
    const { plan } = await planned([
      { meter: 'm', start: '2026-10-05T05:00:06Z', values: [1, null, 3] },
      { meter: 'm', start: '2026-10-05T06:00:00Z', values: [7], intervalS: 86_400, exponent: 0 },
    ])
    expect(plan.pieces).toEqual([])
    expect(plan.problems.map((p) => [p.code, p.at, p.reads, JSON.parse(p.record!) as unknown])).toEqual([
      ['off-grid', 'record 1', 2, { meter: 'm', start: '2026-10-05T05:00:06.000Z', intervalSeconds: 900, values: [0.001, null, 0.003], unit: 'kWh', flow: 'delivered' }],
      ['off-grid', 'record 2', 1, { meter: 'm', start: '2026-10-05T06:00:00.000Z', intervalSeconds: 86_400, values: [7], unit: 'kWh', flow: 'delivered' }],
    ])
  })
})

describe('reads out of their time', () => {
  it('in the future are cut off ten minutes from now', async () => {
    const start = NOW_S - 900
    const { plan, batch } = await planned([{ meter: 'm', start, values: [1, 2, 3, 4] }, { meter: 'm', start: NOW_S + 900, values: [5] }])
    expect(shape(plan).map((p) => (p as number[])[2])).toEqual([2])
    expect(plan.problems.map((p) => [p.code, p.outcome, p.at, p.reads])).toEqual([
      ['future-read', 'quarantined', 'record 1, values/2', 2], ['future-read', 'quarantined', 'record 2, values/0', 1]])
    expect([...batch.values.subarray(0, 5)]).toEqual([1, 2, MISSING, MISSING, MISSING])
    expect(JSON.parse(plan.problems[0].record!)).toMatchObject({ start: '2026-11-20T12:15:00.000Z', values: [0.003, 0.004] })
  })

  it('in the future by days are cut off at the first day that has not begun', async () => {
    const { plan } = await planned([{ meter: 'm', start: '2026-11-19T06:00:00Z', values: [1, 2, 3, 4], intervalS: 86_400 }])
    expect(shape(plan)).toEqual([['2026-11-19', 0, 1, 1, 0], ['2026-11-20', 0, 1, 1, 1]])
    expect(plan.problems).toMatchObject([{ code: 'future-read', reads: 2, at: 'record 1, values/2' }])
  })

  it('before the horizon are rejected day by day', async () => {
    const horizonDay = Date.parse('2026-10-05') / 86_400_000
    const { plan } = await planned([{ meter: 'm', start: '2026-10-05T04:30:00Z', values: [1, 2, 3] }], { horizonDay })
    expect(shape(plan)).toEqual([['2026-10-05', 0, 1, 96, 2]])
    expect(plan.problems).toMatchObject([{ code: 'past-retention', outcome: 'rejected', reads: 2 }])
    expect((await planned([{ meter: 'm', start: '1979-12-31T12:00:00Z', values: [1] }])).plan.problems).toMatchObject([{ outcome: 'rejected' }])
  })
})

describe('multipliers', () => {
  it('are applied exactly, and refused where the product does not fit', async () => {
    const raw = { multiplierApplied: false }
    const { plan, batch } = await planned([
      { meter: 'm80', start: '2026-10-05T05:00:00Z', values: [26_843_545, null] },
      { meter: 'm80', start: '2026-10-05T05:00:00Z', values: [26_843_546] },
      { meter: 'third', start: '2026-10-05T05:00:00Z', values: [3] },
    ], raw)
    expect([...batch.values.subarray(0, 2)]).toEqual([2_147_483_600, MISSING])
    expect(plan.problems.map((p) => [p.code, p.at])).toEqual([['value-range', 'record 2'], ['value-range', 'record 3']])
    expect(plan.pieces).toHaveLength(1)
  })

  it('are left alone where the source applied them', async () => {
    const { batch } = await planned([{ meter: 'm80', start: '2026-10-05T05:00:00Z', values: [26_843_546] }])
    expect(batch.values[0]).toBe(26_843_546)
  })
})

it('negative energy is refused read by read, neighbours in one problem', async () => {
  const { plan, batch } = await planned([{ meter: 'm', start: '2026-10-05T05:00:00Z', values: [-1, -2, 3, null, -4] }])
  expect(plan.problems.map((p) => [p.at, p.reads, (JSON.parse(p.record!) as { values: unknown }).values])).toEqual([
    ['record 1, values/0', 2, [-0.001, -0.002]], ['record 1, values/4', 1, [-0.004]]])
  expect([...batch.values.subarray(0, 5)]).toEqual([MISSING, MISSING, 3, MISSING, MISSING])
})
