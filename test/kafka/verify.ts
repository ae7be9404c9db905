import { deepEqual, equal, ok } from 'node:assert/strict'
import type { Pool } from '../../engine/store/db.js'
import { OUTCOMES } from '../faults/caller.js'
import { Fleet } from '../faults/fleet.js'
import { SLOT_S, type Traffic } from './traffic.js'

const PAGE = 200

/** Holds the stored blocks, day totals and the load against the model, read for read. @returns reads that stand */
export async function verifyBlocks(pool: Pool, traffic: Traffic): Promise<number> {
  let standing = 0
  let total = 0
  for (let from = 0; from < traffic.pairs; from += PAGE) {
    const pairs = Array.from({ length: Math.min(PAGE, traffic.pairs - from) }, (_, i) => from + i)
    const { rows } = await pool.query<{ meter: string; first_s: number; exponent: number; vals: (number | null)[]; present: number }>(
      `select m.id as meter, extract(epoch from d.first_at)::bigint as first_s, d.exponent, d.vals, d.present
         from channel_day d join channel c using (channel_id) join meter m using (meter_id) where m.id = any($1)`, [pairs.flatMap((pair) => Fleet.meters(pair))])
    const held = new Map(pairs.flatMap((pair) => Fleet.meters(pair)).map((meter) => [meter, new Map<number, number>()]))
    for (const row of rows) {
      const reads = held.get(row.meter)!
      let present = 0
      row.vals.forEach((value, slot) => {
        if (value === null) return
        present++
        const startS = row.first_s + slot * SLOT_S
        ok(!reads.has(startS), `${row.meter} at ${startS} twice`)
        reads.set(startS, Math.round(value * 10 ** (row.exponent + 3)))
      })
      equal(row.present, present, `${row.meter}: a day's number of reads`)
    }
    for (const pair of pairs) {
      Fleet.meters(pair).forEach((meter, i) => {
        const reads = held.get(meter)!
        const wrong: { slot: number; expected: number; stands: number | undefined }[] = []
        let expected = 0
        traffic.valuesOf(pair, i === 0 ? 'ordered' : 'stated').forEach((wh, slot) => {
          if (wh < 0) return
          expected++
          total += wh
          const stands = reads.get(traffic.startOf(slot))
          if (stands !== wh) wrong.push({ slot, expected: wh, stands })
        })
        deepEqual(wrong, [], `${meter}: other reads stand than the model has`)
        equal(reads.size, expected, `${meter}: reads that nobody sent`)
        standing += expected
      })
    }
  }
  const { rows: [days] } = await pool.query<{ present: number; wh: string }>(
    'select sum(present)::bigint as present, sum(total * 10::numeric ^ (exponent + 3)) as wh from channel_day')
  deepEqual([days.present, Number(days.wh)], [standing, total])
  const { rows: [load] } = await pool.query<{ wh: string }>('select sum(energy * 1000) as wh from system_load where group_id = 0')
  equal(Number(load.wh), total)
  return standing
}

/**
 * Holds the receipts against what was sent: together they cover each partition's offsets once, without a gap, and each
 * source's sums are those of its messages, settled once each.
 * @returns number of deliveries
 */
export async function verifyReceipts(pool: Pool, traffic: Traffic, topic: string): Promise<number> {
  const { rows } = await pool.query<{ source: string; kafka_partition: number; first_offset: number; next_offset: number; complete: boolean } & Record<string, number>>(
    `select s.name as source, kafka_partition, first_offset, next_offset, complete, received, ${OUTCOMES.join(', ')}
       from delivery d join source s using (source_id) where kafka_topic = $1 order by kafka_partition, first_offset, next_offset, s.name`, [topic])
  const { rows: positions } = await pool.query<{ partition: number; next: number }>(
    'select kafka_partition as partition, next_offset as next from kafka_position where topic = $1', [topic])
  for (const { partition, next } of positions) {
    let at = 0
    let last: { first_offset: number; next_offset: number; source: string } | undefined
    for (const row of rows.filter((r) => r.kafka_partition === partition)) {
      const where = `partition ${partition}, offsets ${row.first_offset} to ${row.next_offset}, source ${row.source}`
      ok(row.complete, `an open receipt: ${where}`)
      if (last !== undefined && row.first_offset === last.first_offset) {
        // Of one batch: one receipt for each source.
        ok(row.next_offset === last.next_offset && row.source !== last.source, `settled twice: ${where}`)
      } else equal(row.first_offset, at, `settled twice, or not at all: ${where}`)
      at = row.next_offset
      last = row
    }
    equal(at, next, `partition ${partition}: the receipts end elsewhere than its position`)
  }
  for (const source of ['ordered', 'stated'] as const) {
    const sum = (name: string): number => rows.filter((r) => r.source === source).reduce((n, row) => n + row[name], 0)
    const { received, stored, quarantined } = traffic.sums[source]
    // What is neither is duplicate, corrected or outranked, by what else its batch says of the read.
    deepEqual({ received: sum('received'), stored: sum('stored'), quarantined: sum('quarantined'), rejected: sum('rejected') },
      { received, stored, quarantined, rejected: 0 }, source)
  }
  const { rows: [{ waiting }] } = await pool.query<{ waiting: number }>('select count(*)::int as waiting from quarantine where settled_by is null')
  equal(waiting, traffic.sums.ordered.quarantined, 'records in quarantine')
  return rows.length
}
