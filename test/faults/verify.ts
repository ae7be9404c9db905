import { deepEqual, equal, ok } from 'node:assert/strict'
import type { Pool } from '../../engine/store/db.js'
import { OUTCOMES, type Caller } from './caller.js'
import { Fleet } from './fleet.js'

/** Holds the database against the fleet's model: every acknowledged read once, no receipt false, nothing counted twice. */
export async function verifyFleet(pool: Pool, fleet: Fleet): Promise<void> {
  deepEqual(fleet.faults, [])
  const { rows: reads } = await pool.query<{ meter: string; start_s: number; wh: string }>(
    `select meter, extract(epoch from start_at)::bigint as start_s, trim_scale(kwh * 1000) as wh from usage_interval where meter like 'F%'`)
  const held = new Map<string, Map<number, number>>()
  for (const { meter, start_s, wh } of reads) {
    const of = held.get(meter) ?? new Map<number, number>()
    held.set(meter, of)
    ok(!of.has(start_s), `${meter} at ${start_s} twice`)
    of.set(start_s, Number(wh))
  }
  for (const [meter, expected] of fleet.model) {
    const of = held.get(meter) ?? new Map<number, number>()
    const wrong = [...expected].filter(([startS, wh]) => of.get(startS) !== wh)
    deepEqual(wrong, [], `${meter}: lost or other than acknowledged: ${JSON.stringify(wrong)}`)
    equal(of.size, expected.size, `${meter}: reads that nobody pushed`)
  }
  const distinct = [...fleet.model.values()].reduce((n, of) => n + of.size, 0)
  const { rows: [blocks] } = await pool.query<{ present: number; wh: string }>(
    'select sum(present)::bigint as present, sum(total * 10::numeric ^ (exponent + 3)) as wh from channel_day')
  equal(blocks.present, distinct)
  const wh = [...fleet.model.values()].reduce((n, of) => n + [...of.values()].reduce((a, b) => a + b, 0), 0)
  equal(Number(blocks.wh), wh)
  const { rows: [load] } = await pool.query<{ wh: string }>('select sum(energy * 1000) as wh from system_load where group_id = 0')
  equal(Number(load.wh), wh)

  // Every commit is in a receipt, acknowledged or not: together they count each read's coming and each change once.
  const { rows: [sums] } = await pool.query<{ stored: number; corrected: number; open: number }>(
    'select sum(stored)::bigint as stored, sum(corrected)::bigint as corrected, count(*) filter (where not complete) as open from delivery')
  deepEqual(sums, { stored: fleet.sums.stored, corrected: fleet.sums.corrected, open: 0 })
  const { rows: deliveries } = await pool.query<{ delivery_id: string } & Record<string, number>>(
    `select delivery_id, received, ${OUTCOMES.join(', ')} from delivery`)
  const kept = new Map(deliveries.map((row) => [row.delivery_id, row]))
  for (const { delivery, counts } of fleet.acknowledged) {
    const row = kept.get(delivery)
    ok(row !== undefined, `the acknowledged delivery ${delivery} is not there`)
    deepEqual(Object.fromEntries(Object.keys(counts).map((name) => [name, row[name]])), counts)
  }
}

/** Holds the usage answers against the model: totals by account and day. */
export async function verifyUsage(caller: Caller, fleet: Fleet, clients: number, from: string, to: string, offsetS: number): Promise<void> {
  for (let id = 0; id < clients; id++) {
    const days = new Map<string, number>()
    for (const meter of Fleet.meters(id)) {
      for (const [startS, wh] of fleet.model.get(meter) ?? []) {
        const day = localDay(startS, offsetS)
        days.set(day, (days.get(day) ?? 0) + wh)
      }
    }
    const answer = await caller.json<{ series: { periods: { start: string; value: number | null }[] }[] }>(
      'GET', `/v1/accounts/${Fleet.account(id)}/usage?resolution=day&from=${from}&to=${to}`)
    const periods = answer.series.flatMap((series) => series.periods)
    deepEqual(Object.fromEntries(periods.filter((p) => p.value !== null).map((p) => [p.start.slice(0, 10), p.value])),
      Object.fromEntries([...days].map(([day, wh]) => [day, wh / 1000])))
  }
}

/** Holds the alerts against the model: one per threshold and period, standing exactly where the sum is above the limit. */
export async function verifyAlerts(pool: Pool, fleet: Pick<Fleet, 'model'>, clients: number, limits: Limits, todayS: number, offsetS: number): Promise<void> {
  const { rows } = await pool.query<{ account: string; kind: string; state: string; alerts: number; steps: number; told: number }>(
    `select a.id as account, l.kind, max(l.state) as state, count(*) as alerts, max(l.step) as steps,
            (select count(*) from message m join alert o on o.alert_id = m.alert_id
              where o.account_id = a.account_id and o.kind = l.kind) as told
       from alert l join account a using (account_id) group by a.account_id, a.id, l.kind`)
  const byKey = new Map(rows.map((row) => [`${row.account} ${row.kind}`, row]))
  const today = localDay(todayS, offsetS)
  for (let id = 0; id < clients; id++) {
    const sums = { 'day-usage': 0, 'period-usage': 0 }
    for (const meter of Fleet.meters(id)) {
      for (const [startS, wh] of fleet.model.get(meter) ?? []) {
        const day = localDay(startS, offsetS)
        if (day === today) sums['day-usage'] += wh
        if (day.slice(0, 7) === today.slice(0, 7)) sums['period-usage'] += wh
      }
    }
    for (const kind of ['day-usage', 'period-usage'] as const) {
      const row = byKey.get(`${Fleet.account(id)} ${kind}`)
      const above = sums[kind] > limits[kind] * 1000
      equal(row?.state === 'raised', above, `${Fleet.account(id)} ${kind}: ${sums[kind]} Wh, ${JSON.stringify(row)}`)
      equal(row?.alerts ?? 1, 1)
      ok((row?.told ?? 0) <= (row?.steps ?? 0))
    }
  }
}

export type Limits = Record<'day-usage' | 'period-usage', number>

function localDay(startS: number, offsetS: number): string {
  return new Date((startS + offsetS) * 1000).toISOString().slice(0, 10)
}
