import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fillGaps, type EstimationRules } from '../engine/estimate/fill.js'
import { seriesOf } from '../engine/estimate/series.js'
import { packageRoot } from '../engine/package-root.js'
import { MISSING } from '../engine/read-batch.js'
import { fillEmpty } from '../engine/fill.js'
import { emptyBlock, type Block } from '../engine/settle.js'
import { getZone, type Zone } from '../engine/time/zone.js'
import { DEFAULT_RULE_SET } from '../engine/validate/rule-set.js'
import { Random } from '../fixtures/prng.js'

/** Real meters, withheld in part: how far estimates are off, beside a naive copy of the day before. */

/** A home's reads in a row, watt-hours from a midnight on; MISSING where there is none. */
export interface Home {
  name: string
  intervalS: number
  wh: Int32Array
}

export interface Withheld {
  hours: number
  gaps: number
  /** Mean absolute error of an interval, Wh, and of the gap's energy as a share of what it really was. */
  estimate: Errors
  naive: Errors
  bounded: Errors
}

export interface Errors { perInterval: number; energyShare: number }

const SAMPLES = join(packageRoot(), '..', 'shared', 'samples', 'csv')
const FIRST_DAY = Math.round(Date.UTC(2013, 0, 1) / 86_400_000)
const zone: Zone = getZone('Etc/GMT')

/** The 56 homes of the Zonnedael file; none where the file is not there. */
export function zonnedael(folder = SAMPLES): Home[] {
  const path = join(folder, 'zonnedael_nl_2013H1_15min_56homes_wh.csv')
  if (!existsSync(path)) return []
  const [head, ...rows] = readFileSync(path, 'utf8').trim().split('\n').map((line) => line.trim().split(','))
  return head.slice(1).map((name, c) => ({ name, intervalS: 900, wh: Int32Array.from(rows, (r) => Number(r[c + 1])) }))
}

/** The household of the Low Carbon London file. */
export function lcl(folder = SAMPLES): Home[] {
  const path = join(folder, 'lcl_london_MAC000033_2013_30min.csv')
  if (!existsSync(path)) return []
  const wh = new Int32Array(365 * 48).fill(MISSING)
  for (const line of readFileSync(path, 'utf8').trim().split('\n').slice(1)) {
    const [, , at, kwh] = line.trim().split(',')
    const slot = (Date.parse(`${at.replace(' ', 'T').slice(0, 19)}Z`) / 1000 - FIRST_DAY * 86_400) / 1800
    if (Number.isInteger(slot) && slot >= 0 && slot < wh.length && kwh !== 'Null') wh[slot] = Math.round(Number(kwh) * 1000)
  }
  return [{ name: 'MAC000033', intervalS: 1800, wh }]
}

/** Withholds one gap of that many hours in each of some days of each home, and estimates it. */
export function withhold(homes: readonly Home[], hours: number, perHome: number): Withheld {
  const sums = { estimate: [0, 0], naive: [0, 0], bounded: [0, 0] }
  let intervals = 0
  let energy = 0
  let gaps = 0
  for (const [h, home] of homes.entries()) {
    const random = new Random(5, h, hours)
    const perDay = 86_400 / home.intervalS
    const length = hours * 3600 / home.intervalS
    const days = Math.floor(home.wh.length / perDay)
    for (let k = 0; k < perHome; k++) {
      const at = random.whole(37 * perDay, (days - 2) * perDay)
      const truth = home.wh.subarray(at, at + length)
      if (truth.includes(MISSING)) continue
      const naive = home.wh.subarray(at - perDay, at - perDay + length)
      const tries = { estimate: estimated(home, at, length, false), bounded: estimated(home, at, length, true), naive: [...naive] }
      if (tries.estimate.length < length || tries.bounded.length < length || naive.includes(MISSING)) continue
      gaps++
      intervals += length
      const real = truth.reduce((a, b) => a + b, 0)
      energy += real
      for (const [name, values] of Object.entries(tries) as ['estimate' | 'naive' | 'bounded', number[]][]) {
        sums[name][0] += values.reduce((sum, v, i) => sum + Math.abs(v - truth[i]), 0)
        sums[name][1] += Math.abs(values.reduce((a, b) => a + b, 0) - real)
      }
    }
  }
  const errors = ([absolute, off]: number[]): Errors => ({ perInterval: absolute / intervals, energyShare: off / energy })
  return { hours, gaps, estimate: errors(sums.estimate), naive: errors(sums.naive), bounded: errors(sums.bounded) }
}

/** What fills the withheld reads; with registers where the days' midnights were read. */
function estimated(home: Home, at: number, length: number, registers: boolean): number[] {
  const perDay = 86_400 / home.intervalS
  const from = Math.floor(at / perDay) - 36
  const to = Math.ceil((at + length) / perDay) + 1
  const blocks = new Map<number, Block>()
  for (let d = Math.max(0, from); d < to; d++) {
    const values = home.wh.slice(d * perDay, (d + 1) * perDay)
    for (let i = 0; i < values.length; i++) if (d * perDay + i >= at && d * perDay + i < at + length) values[i] = MISSING
    const block = emptyBlock(1, FIRST_DAY + d, (FIRST_DAY + d) * 86_400, home.intervalS, perDay, 1, 0)
    if (values.length === perDay) fillEmpty(block, { slot: 0, count: perDay, values, offset: 0, exponent: -3, lane: 0, lanes: null, version: 1e15 })
    if (block.present > 0) blocks.set(block.day, block)
  }
  const series = seriesOf(zone, blocks, FIRST_DAY + from, FIRST_DAY + to, home.intervalS)
  if (series === null) return []
  const rules: EstimationRules = { ...DEFAULT_RULE_SET.estimation, enabled: true, registerBounded: registers }
  let reading = 0
  const snapshots = registers ? Array.from({ length: to - Math.floor(at / perDay) + 1 }, (_, k) => {
    const day = Math.floor(at / perDay) + k
    if (k > 0) for (const v of home.wh.subarray((day - 1) * perDay, day * perDay)) reading += v === MISSING ? 0 : v
    return { atS: (FIRST_DAY + day) * 86_400, mantissa: reading }
  }) : []
  const first = at - from * perDay
  return fillGaps(series, { outages: [], registers: snapshots }, rules, series.values.length).estimates
    .filter((e) => e.slot >= first && e.slot < first + length).map((e) => e.mantissa)
}
