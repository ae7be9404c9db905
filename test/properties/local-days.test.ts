import { beforeAll, expect, it } from 'vitest'
import { LoadDifference } from '../../engine/load.js'
import { emptyTally, mergePieces } from '../../engine/merge-pieces.js'
import { planBatch } from '../../engine/plan.js'
import { MISSING } from '../../engine/read-batch.js'
import type { RegistryMap } from '../../engine/registry-map.js'
import type { Block } from '../../engine/settle.js'
import { getZone, type Zone } from '../../engine/time/zone.js'
import { registryOf } from '../registry-stub.js'
import { batchOf } from '../settling.js'
import { unevenDays } from './scenario.js'

// C7, over every zone: local days cut the same energy as UTC does, none of it lost or twice, whatever their length.

const ALL = Intl.supportedValuesOf('timeZone')
const DULL_DAY = 20_500

let map: RegistryMap

beforeAll(async () => {
  map = await registryOf({ m: 1 })
})

function settled(zone: Zone, startS: number, intervalS: number, values: number[]): Block[] {
  const batch = batchOf([{ meter: 'm', start: startS, intervalS, values }])
  const { pieces, problems } = planBatch(batch, {
    map, zone, nowS: 2e9, horizonDay: -Infinity, toleranceS: 5, unknownMeters: 'quarantine', multiplierApplied: true, delivery: 0 })
  expect(problems).toEqual([])
  for (const p of pieces) p.channel.channelId = 1
  return mergePieces({ pieces, deliveries: [{ batch, deliveryNo: 1, version: 1 }], stored: new Map(), atUs: 0 }, [emptyTally()]).changes.map((c) => c.after)
}

function wholeLoad(zone: Zone, blocks: readonly Block[]): { hourS: number; nano: bigint; coarse: bigint }[] {
  const load = new LoadDifference(zone)
  for (const b of blocks) load.add(b, 1, null, 1)
  return load.rows().map((r) => ({ hourS: r.hourS, nano: BigInt(r.energy.replace('.', '')), coarse: BigInt(r.coarse.replace('.', '')) }))
}

const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0)

/** What must hold of three days around one, for reads of that length that begin with the first. */
function check(zone: Zone, day: number, intervalS: number): void {
  const [from, to] = [zone.dayStart(day - 1), zone.dayStart(day + 2)]
  // Reads on the zone's own grid, and where the clocks move by half an hour on that of UTC.
  const offsets = new Set([from, zone.dayStart(day), zone.dayStart(day + 1), to].map((s) => s % intervalS))
  const startS = offsets.size === 1 ? from : Math.ceil(from / intervalS) * intervalS
  const values = Array.from({ length: Math.ceil((to - startS) / intervalS) }, (_, i) => 1 + i % 97)
  const blocks = settled(zone, startS, intervalS, values)
  expect(blocks.map((b) => b.day)).toEqual([day - 1, day, day + 1])
  expect(sum(blocks.map((b) => b.total))).toBe(sum(values))
  for (const b of blocks) {
    const [start, end] = [zone.dayStart(b.day), zone.dayStart(b.day + 1)]
    expect(b.firstS >= start && b.firstS < start + intervalS).toBe(true)
    const lastS = b.firstS + (b.vals.length - 1) * intervalS
    expect(lastS < end && lastS + intervalS >= end).toBe(true)
    expect([b.present, b.total]).toEqual([b.vals.length, sum([...b.vals].filter((v) => v !== MISSING))])
    // The same stretch of UTC holds the same reads.
    const first = (b.firstS - startS) / intervalS
    expect([...b.vals]).toEqual(values.slice(first, first + b.vals.length))
  }
  const load = wholeLoad(zone, blocks)
  expect(load.reduce((n, r) => n + r.nano, 0n)).toBe(BigInt(sum(values)) * 1_000_000n)
  // Where the clocks move by half an hour, the hours after that do not begin 3600 s after the hours before.
  const isSteady = (zone.offsetAt(from) - zone.offsetAt(to)) % 3600 === 0
  if (isSteady) for (const { hourS } of load) expect((hourS + zone.offsetAt(hourS)) % 3600).toBe(0)
}

it.each([900, 1800, 3600, 300])('reads of %i s: every day of every zone, long and short, holds what UTC holds', (intervalS) => {
  for (const name of ALL) {
    const zone = getZone(name)
    for (const day of [...unevenDays(zone), DULL_DAY]) check(zone, day, intervalS)
  }
})

it('daily reads are one slot of their day, however long it is', () => {
  for (const name of ALL) {
    const zone = getZone(name)
    for (const day of [...unevenDays(zone), DULL_DAY]) {
      const blocks = settled(zone, zone.dayStart(day - 1), 86_400, [10, 20, 30])
      expect(blocks.map((b) => [b.day, b.firstS, [...b.vals]])).toEqual(
        [10, 20, 30].map((v, i) => [day - 1 + i, zone.dayStart(day - 1 + i), [v]]))
      expect(wholeLoad(zone, blocks).map((r) => [r.nano, r.coarse])).toEqual([10n, 20n, 30n].map((v) => [0n, v * 1_000_000n]))
    }
  }
})

it('there are days of 22 to 26 hours among them, and half hours', () => {
  const lengths = new Set(ALL.flatMap((name) => unevenDays(getZone(name)).map((d) => getZone(name).dayStart(d + 1) - getZone(name).dayStart(d))))
  expect([...lengths].map((s) => s / 3600).sort((a, b) => a - b)).toEqual([22, 23, 23.5, 24.5, 25, 26])
})

it('a day that a zone left out has no read: daily reads go on with the day after', () => {
  // Samoa went from 29 to 31 December 2011.
  const zone = getZone('Pacific/Apia')
  const day = Date.UTC(2011, 11, 29) / 86_400_000
  expect(settled(zone, zone.dayStart(day), 86_400, [1, 2, 3]).map((b) => [b.day - day, b.total])).toEqual([[0, 1], [2, 2], [3, 3]])
})
