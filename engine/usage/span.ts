import type { FlowCode } from '../read-batch.js'
import { blockKey } from '../store/blocks.js'
import type { Queryable } from '../store/db.js'
import type { Zone } from '../time/zone.js'
import { loadBlocksAsOf, restatedAsOf, restatedWithin, type Part } from './as-of.js'
import { channelsKnownBefore, loadDayRows, type DayRow, type SlotDays } from './day-rows.js'
import type { Segment } from './segments.js'

/** The part of a segment that lies in the asked range; times are epoch seconds, finite, the end exclusive. */
export interface Piece {
  channelId: number
  flow: FlowCode
  intervalS: number
  fromS: number
  toS: number
}

/** The pieces that one series of an answer sums. */
export interface Group {
  flow: FlowCode
  /** Public id with by=meter, else null. */
  meter: string | null
  pieces: Piece[]
}

/** The series that segments come to in [fromS, toS): one per flow, or one per meter and flow. */
export function groupsOf(segments: readonly Segment[], by: 'account' | 'meter', fromS: number, toS: number): Group[] {
  const groups = new Map<string, Group>()
  for (const s of segments) {
    const piece = {
      channelId: s.channelId, flow: s.flow, intervalS: s.intervalS,
      fromS: Math.max(s.fromS, fromS), toS: Math.min(s.toS, toS),
    }
    if (piece.fromS >= piece.toS) continue
    const meter = by === 'meter' ? s.meter : null
    const key = `${s.flow} ${meter ?? ''}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { flow: s.flow, meter, pieces: [piece] })
    else group.pieces.push(piece)
  }
  return [...groups.values()].sort((a, b) => compareText(a.meter ?? '', b.meter ?? '') || a.flow - b.flow)
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** What is stored of some pieces, and how far it is due. */
export interface Span {
  zone: Zone
  /** Epoch seconds up to which reads are due: what lacks before is missing. */
  dueS: number
  row(channelId: number, day: number): DayRow | undefined
  /**
   * First local day on which reads of the channel are expected: the day of its first stored read, or -Infinity where
   * that lies before the pieces. A meter that is registered before it first reads has nothing missing until then;
   * afterwards every slot without a read is missing. Infinity: it never read.
   */
  knownFrom(channelId: number): number
  /** Newest change of a value that stood, microseconds; 0 for none. */
  restatedAtUs: number
}

export interface SpanRequest {
  zone: Zone
  pieces: readonly Piece[]
  slots: SlotDays
  dueS: number
  /** RFC 3339: the state as it was then; null: as it is. */
  asOf: string | null
}

/** Reads the stored days that the pieces touch. */
export async function loadSpan(db: Queryable, request: SpanRequest): Promise<Span> {
  const { zone, asOf } = request
  const rows = new Map<number, DayRow>()
  let restatedAtUs = 0
  const firstDays = new Map<number, number>()
  const cut = cutDays(request.pieces, zone)
  for (const window of windowsOf(request.pieces, zone)) {
    const { channels, fromDay, toDay } = window
    const ids = [...channels.keys()]
    const found = asOf === null
      ? await loadDayRows(db, ids, fromDay, toDay, request.slots)
      : await loadBlocksAsOf(db, zone, channels, fromDay, toDay, asOf)
    for (const row of found) {
      rows.set(blockKey(row.channelId, row.day), row)
      if (asOf === null && row.restatedAtUs > restatedAtUs && !cut.has(blockKey(row.channelId, row.day))) restatedAtUs = row.restatedAtUs
      if (!(firstDays.get(row.channelId)! <= row.day)) firstDays.set(row.channelId, row.day)
    }
    if (asOf !== null) restatedAtUs = Math.max(restatedAtUs, await restatedAsOf(db, ids, fromDay, toDay, asOf, cut))
    const unsure = ids.filter((id) => firstDays.get(id) !== fromDay)
    for (const id of await channelsKnownBefore(db, unsure, fromDay, asOf)) firstDays.set(id, -Infinity)
  }
  // A row tells of its whole day; who sees a part of it is told of that part alone, and not of another occupant's.
  const parts = [...cut].flatMap(([key, of]) => {
    const row = rows.get(key)
    return row === undefined || row.restatedAtUs <= restatedAtUs ? [] : of.map((part) => ({ ...part, firstS: row.firstS }))
  })
  restatedAtUs = Math.max(restatedAtUs, await restatedWithin(db, parts, asOf))
  return {
    zone,
    dueS: request.dueS,
    row: (channelId, day) => rows.get(blockKey(channelId, day)),
    knownFrom: (channelId) => firstDays.get(channelId) ?? Infinity,
    restatedAtUs,
  }
}

/** Days of which a piece covers a part only, by block: the boundary days of an assignment, and those the range cuts. */
function cutDays(pieces: readonly Piece[], zone: Zone): Map<number, Omit<Part, 'firstS'>[]> {
  const cut = new Map<number, Omit<Part, 'firstS'>[]>()
  for (const p of pieces) {
    for (const day of new Set([zone.dayOf(p.fromS), zone.dayOf(p.toS - 1)])) {
      if (p.fromS <= zone.dayStart(day) && p.toS >= zone.dayStart(day + 1)) continue
      const key = blockKey(p.channelId, day)
      const part = { channelId: p.channelId, day, intervalS: p.intervalS, fromS: p.fromS, toS: p.toS }
      cut.set(key, [...cut.get(key) ?? [], part])
    }
  }
  return cut
}

interface Window {
  channels: Map<number, number>
  fromDay: number
  toDay: number
}

/** Channels that are read over the same days share a statement; after an exchange each channel is read where it counts. */
function windowsOf(pieces: readonly Piece[], zone: Zone): Window[] {
  const days = new Map<number, { fromDay: number; toDay: number; intervalS: number }>()
  for (const p of pieces) {
    const fromDay = zone.dayOf(p.fromS)
    const toDay = zone.dayOf(p.toS - 1) + 1
    const known = days.get(p.channelId)
    days.set(p.channelId, {
      fromDay: Math.min(known?.fromDay ?? fromDay, fromDay), toDay: Math.max(known?.toDay ?? toDay, toDay),
      intervalS: p.intervalS,
    })
  }
  const windows = new Map<string, Window>()
  for (const [channelId, { fromDay, toDay, intervalS }] of days) {
    const key = `${fromDay} ${toDay}`
    const window = windows.get(key) ?? { channels: new Map<number, number>(), fromDay, toDay }
    window.channels.set(channelId, intervalS)
    windows.set(key, window)
  }
  return [...windows.values()]
}
