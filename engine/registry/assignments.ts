import { parseDay, parseInstant } from '../time/text.js'
import type { Zone } from '../time/zone.js'
import { RecordRefused } from './receipt.js'
import type { MeterRecord } from './schema.js'

/** Which account a meter serves, from one instant to another; epoch seconds, toS exclusive, null while open. */
export interface Assignment {
  readonly account: string
  readonly servicePoint: string | null
  readonly fromS: number
  readonly toS: number | null
}

/**
 * The meter's assignments after a record: `assignments` replaces the whole list; `account` and `from` at the top level
 * add one and end the open one that began before it; `account: null` with `from` ends the open one.
 * @param zone of the utility, for local dates; null while it is not set
 * @returns sorted by start, never overlapping; the given list where the record says nothing about assignments
 * @throws RecordRefused
 */
export function assignmentsAfter(
  before: readonly Assignment[], record: MeterRecord, zone: Zone | null, place: string,
): readonly Assignment[] {
  const list = record.assignments
  if (list !== undefined) {
    if (record.account !== undefined || record.from !== undefined || record.to !== undefined || record.servicePoint !== undefined) {
      throw new RecordRefused('invalid-record', `${place} /assignments`,
        'A record gives its assignments either as a list or at its top level, not both.')
    }
    return checked((list ?? []).map((a, i) => {
      const at = `${place} /assignments/${i}`
      return span({
        account: a.account, servicePoint: a.servicePoint ?? null, fromS: instantOf(a.from, zone, `${at}/from`),
        toS: a.to === undefined || a.to === null ? null : instantOf(a.to, zone, `${at}/to`),
      }, at)
    }), `${place} /assignments`)
  }
  if (record.account === undefined && record.from === undefined && record.to === undefined && record.servicePoint === undefined) {
    return before
  }
  return oneMore(before, record, zone, place)
}

function oneMore(before: readonly Assignment[], record: MeterRecord, zone: Zone | null, place: string): readonly Assignment[] {
  if (record.account === undefined || record.from === undefined) {
    throw new RecordRefused('assignment-incomplete', place, 'An assignment needs both account and from.',
      'Send {"meter","account","from"}, or the whole list as "assignments".')
  }
  const fromS = instantOf(record.from, zone, `${place} /from`)
  if (record.account === null) return vacate(before, fromS)
  const account = record.account
  const toS = record.to === undefined || record.to === null ? null : instantOf(record.to, zone, `${place} /to`)
  const known = before.find((a) => a.account === account && a.fromS === fromS)
  if (known !== undefined) {
    // The same record again, perhaps after the meter moved on: what it leaves out stays.
    const next = {
      ...known, toS: record.to === undefined ? known.toS : toS,
      servicePoint: record.servicePoint === undefined ? known.servicePoint : record.servicePoint,
    }
    return checked(before.map((a) => a === known ? span(next, place) : a), `${place} /from`)
  }
  const made = span({ account, servicePoint: record.servicePoint ?? null, fromS, toS }, place)
  const ended = before.map((a) => a.toS === null && a.fromS < fromS ? { ...a, toS: fromS } : a)
  return checked([...ended, made], `${place} /from`)
}

/** The meter serves nobody from then on. */
function vacate(before: readonly Assignment[], fromS: number): readonly Assignment[] {
  return before.map((a) => a.toS === null && a.fromS < fromS ? { ...a, toS: fromS } : a)
}

function span(a: Assignment, at: string): Assignment {
  if (a.toS !== null && a.toS <= a.fromS) throw new RecordRefused('invalid-record', at, 'An assignment ends after it begins.')
  return a
}

function checked(list: Assignment[], at: string): readonly Assignment[] {
  list.sort((a, b) => a.fromS - b.fromS)
  for (let i = 1; i < list.length; i++) {
    const end = list[i - 1].toS
    if (end === null || end > list[i].fromS) {
      throw new RecordRefused('assignment-overlap', at, 'A meter serves one account at a time; two assignments overlap.',
        'End the earlier one, or send the meter\'s whole list as "assignments".')
    }
  }
  return list
}

/** Epoch seconds; a local date is its local midnight. A fraction goes to the next second, as reads start on seconds. */
function instantOf(text: string, zone: Zone | null, at: string): number {
  const instant = parseInstant(text)
  if (instant !== undefined) return Math.ceil(instant)
  const day = parseDay(text)
  if (day === undefined) {
    throw new RecordRefused('invalid-instant', at, 'This is neither RFC 3339 with an offset nor a local date.',
      'Write 2026-10-01T10:30:00-05:00 or 2026-10-01.')
  }
  if (zone === null) {
    throw new RecordRefused('utility-zone-unset', at, 'A local date needs the utility\'s zone, which is not set yet.',
      'Set the utility\'s zone first, or write instants with offset.')
  }
  return zone.dayStart(day)
}
