import type { Queryable } from '../store/db.js'
import { dayNumber, dayText } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import type { Block } from './crossing.js'
import type { SplitPiece, WholePiece } from './pieces.js'

/** Sum of a group's whole days at one exponent. */
export interface TotalRow {
  k: number
  exponent: number
  total: string
  present: number
  estimated: number
}

/**
 * Sums of whole days by group: piece i belongs to group k[i]. Totals are exact.
 * @param withoutEstimates leaves the days out that hold any estimate
 */
export async function sumWholeDays(
  db: Queryable, k: number[], pieces: WholePiece[], withoutEstimates: boolean,
): Promise<TotalRow[]> {
  if (pieces.length === 0) return []
  const { rows } = await db.query<TotalRow>(
    `select p.k, c.exponent::int as exponent, sum(c.total)::text as total,
            sum(c.present)::int as present, sum(c.estimated)::int as estimated
       from unnest($1::int[], $2::int[], $3::date[], $4::date[]) as p(k, channel_id, from_day, to_day)
       join channel_day c on c.channel_id = p.channel_id and c.day >= p.from_day and c.day < p.to_day
      where c.day >= $5::date and c.day < $6::date${withoutEstimates ? ' and c.estimated = 0' : ''}
      group by p.k, c.exponent`, [k, ...pieceColumns(pieces)])
  return rows
}

interface RawBlock {
  k: number
  day: string
  first_s: number
  interval_s: number
  exponent: number
  vals: (number | null)[]
  lane: number[] | null
}

/** A block and the group or piece it was asked for by. */
export interface LoadedBlock extends Block {
  k: number
}

/** Day blocks with their slots, for whole days; the blocks count in full. */
export async function loadWholeBlocks(
  db: Queryable, k: number[], pieces: WholePiece[], zone: Zone, onlyEstimated = false,
): Promise<LoadedBlock[]> {
  if (pieces.length === 0) return []
  const { rows } = await db.query<RawBlock>(
    `select p.k, c.day, extract(epoch from c.first_at)::float8 as first_s, c.interval_s, c.exponent, c.vals, c.lane
       from unnest($1::int[], $2::int[], $3::date[], $4::date[]) as p(k, channel_id, from_day, to_day)
       join channel_day c on c.channel_id = p.channel_id and c.day >= p.from_day and c.day < p.to_day
      where c.day >= $5::date and c.day < $6::date${onlyEstimated ? ' and c.estimated > 0' : ''}`, [k, ...pieceColumns(pieces)])
  return rows.map((r) => toBlock(r, -Infinity, Infinity, zone))
}

/** Day blocks with their slots, for days that count in part; `k` of a block is its piece's index. */
export async function loadSplitBlocks(db: Queryable, pieces: SplitPiece[], zone: Zone): Promise<LoadedBlock[]> {
  if (pieces.length === 0) return []
  const days = pieces.map((p) => p.day)
  const { rows } = await db.query<RawBlock>(
    `select p.k::int - 1 as k, c.day, extract(epoch from c.first_at)::float8 as first_s, c.interval_s, c.exponent,
            c.vals, c.lane
       from unnest($1::int[], $2::date[]) with ordinality as p(channel_id, day, k)
       join channel_day c on c.channel_id = p.channel_id and c.day = p.day
      where c.day >= $3::date and c.day <= $4::date`,
    [pieces.map((p) => p.channelId), days.map(dayText), dayText(least(days)), dayText(greatest(days))])
  return rows.map((r) => toBlock(r, pieces[r.k].fromS, pieces[r.k].toS, zone))
}

/** $2 to $6: channels, first days, end days, and the bounds of all days, which let the planner drop partitions. */
function pieceColumns(pieces: WholePiece[]): [number[], string[], string[], string, string] {
  return [
    pieces.map((p) => p.channelId),
    pieces.map((p) => dayText(p.startDay)),
    pieces.map((p) => dayText(p.endDay)),
    dayText(least(pieces.map((p) => p.startDay))),
    dayText(greatest(pieces.map((p) => p.endDay))),
  ]
}

function toBlock(r: RawBlock, fromS: number, toS: number, zone: Zone): LoadedBlock {
  return {
    k: r.k,
    firstAtS: r.first_s,
    intervalS: r.interval_s,
    exponent: r.exponent,
    values: r.vals,
    lanes: r.lane,
    fromS,
    toS,
    dayEndS: zone.dayStart(dayNumber(r.day) + 1),
  }
}

// Not Math.min(...days): the arguments of a large load would overflow the stack.
function least(values: number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Infinity)
}

function greatest(values: number[]): number {
  return values.reduce((a, b) => Math.max(a, b), -Infinity)
}
