import type pg from 'pg'
import { dayNumber } from '../engine/time/text.js'
import { getZone } from '../engine/time/zone.js'
import { newestHeld } from '../engine/usage/newest.js'
import { loadAccountSubject, measureUsage, type Resolution } from '../engine/usage/usage.js'
import { createFleet } from '../fixtures/simulator.js'
import { fillDays } from './fill.js'
import { Instance } from './instance.js'
import { figure, say, type Outcome } from './report.js'
import type { ScenarioOptions } from './scenario.js'
import { spreadOf } from './statistics.js'

const METERS = 50_000
const FROM_DAY = dayNumber('2024-10-01')
const DAYS = 730
const INTERVAL_S = 3600

interface Question {
  name: string
  from: string
  to: string
  resolution: Resolution
  /** Rows of channel_day that the answer is made of, for an account of one meter. */
  rows: number
}

const QUESTIONS: Question[] = [
  { name: 'a month by day', from: '2025-07-01', to: '2025-08-01', resolution: 'day', rows: 31 },
  { name: 'one day by interval', from: '2025-07-14', to: '2025-07-15', resolution: 'interval', rows: 1 },
  { name: 'a month by hour', from: '2025-07-01', to: '2025-08-01', resolution: 'hour', rows: 31 },
  { name: 'a year by month', from: '2025-01-01', to: '2026-01-01', resolution: 'month', rows: 365 },
  { name: 'two years by month', from: '2024-10-01', to: '2026-10-01', resolution: 'month', rows: 730 },
]

interface PlanNode {
  'Node Type': string
  'Relation Name'?: string
  'Index Cond'?: string
  'Actual Rows': number
  'Actual Loops': number
  'Rows Removed by Filter'?: number
  'Rows Removed by Index Recheck'?: number
  'Shared Hit Blocks': number
  'Shared Read Blocks': number
  Plans?: PlanNode[]
}

interface Plan { Plan: PlanNode; 'Execution Time': number; 'Planning Time': number }

/** What the usage queries read on two years of 50,000 meters: EXPLAIN (ANALYZE, BUFFERS) of the statements that the engine runs. */
export async function explain(options: ScenarioOptions): Promise<Outcome> {
  const instance = await Instance.start(options.env, options.nodeArgs)
  const client = await instance.connect()
  try {
    say(`registering ${METERS} meters`)
    await instance.register(createFleet({ meters: METERS, seed: 'bench', zone: 'America/Chicago', startDay: FROM_DAY, intervalSeconds: INTERVAL_S }))
    const rows = await fillDays(instance, {
      fromDay: FROM_DAY, days: DAYS, intervalS: INTERVAL_S, onProgress: (n) => say(`${figure(n)} rows`) })
    const size = await client.query<{ size: string }>(
      `select pg_size_pretty(sum(pg_total_relation_size(inhrelid))) as size from pg_inherits where inhparent = 'channel_day'::regclass`)
    const account = await client.query<{ account_id: number }>(
      'select account_id from meter_assignment group by account_id having count(*) = 1 order by account_id offset 20000 limit 1')
    const notes: string[] = []
    const plans: Record<string, unknown> = {}
    const measures = []
    for (const q of QUESTIONS) {
      const { found, total } = await ask(client, account.rows[0].account_id, q)
      plans[q.name] = found.map(({ text, plan }) => ({ text, plan }))
      measures.push({ name: `${q.name}: execution and planning`, unit: 'ms', spread: spreadOf([total]) })
      notes.push(`## ${q.name} (${q.rows} rows asked for)`, ...found.map(({ text, plan }) => summary(text, plan)))
    }
    return {
      about: `${METERS} meters, ${DAYS} days, one hourly channel each (24 slots, to fit the disk): ${figure(rows)} rows of channel_day, ` +
        `${size.rows[0].size} with indexes, laid down day by day. Plans of the statements on channel_day that the engine runs for an account.`,
      measures, notes, detail: { plans }, database: await instance.facts(),
    }
  } finally {
    await client.end()
    await instance.stop(options.keep)
  }
}

interface Recorded { text: string; values: unknown[] }

/** Asks the engine with a connection that records its statements, then has those on channel_day explained. */
async function ask(client: pg.Client, accountId: number, q: Question): Promise<{ found: { text: string; plan: Plan }[]; total: number }> {
  const zone = getZone('America/Chicago')
  const recorded: Recorded[] = []
  const recorder = new Proxy(client, {
    get: (target, name) => {
      if (name !== 'query') return Reflect.get(target, name) as unknown
      return (config: string | { text: string; values: unknown[] }, values?: unknown[]) => {
        const text = typeof config === 'string' ? config : config.text
        recorded.push({ text, values: typeof config === 'string' ? values ?? [] : config.values })
        return target.query(config as string, values)
      }
    },
  })
  const subject = await loadAccountSubject(recorder, zone, accountId, null)
  const nowS = zone.dayStart(FROM_DAY + DAYS)
  await measureUsage(recorder, subject, {
    fromS: zone.dayStart(dayNumber(q.from)), toS: zone.dayStart(dayNumber(q.to)), resolution: q.resolution, by: 'account', flow: null,
    asOf: null, nowS,
  })
  await newestHeld(recorder, zone, subject.segments, nowS, null)
  const found: { text: string; plan: Plan }[] = []
  for (const { text, values } of recorded.filter((r) => r.text.includes('channel_day'))) {
    let plan: Plan | undefined
    // The second of two, so that what is told is the statement's work and not the first reading of the catalog.
    for (let i = 0; i < 2; i++) {
      const { rows } = await client.query<{ 'QUERY PLAN': Plan[] }>({ text: `explain (analyze, buffers, format json) ${text}`, values })
      plan = rows[0]['QUERY PLAN'][0]
    }
    found.push({ text, plan: plan! })
  }
  return { found, total: found.reduce((sum, f) => sum + f.plan['Execution Time'] + f.plan['Planning Time'], 0) }
}

function summary(text: string, plan: Plan): string {
  const scans: PlanNode[] = []
  const walk = (node: PlanNode): void => {
    if (node['Relation Name']?.startsWith('channel_day') === true) scans.push(node)
    for (const child of node.Plans ?? []) walk(child)
  }
  walk(plan.Plan)
  const sum = (of: (n: PlanNode) => number): number => scans.reduce((total, n) => total + of(n), 0)
  const run = scans.filter((n) => n['Actual Loops'] > 0)
  return [
    `\`${text.replace(/\s+/g, ' ').trim().slice(0, 100)}…\``,
    '',
    `- ${[...new Set(run.map((n) => n['Node Type']))].join(', ')} on ${run.length} partitions by \`${run[0]?.['Index Cond'] ?? 'no index condition'}\``,
    `- rows read ${sum((n) => n['Actual Rows'] * n['Actual Loops'])}, removed by a filter ${sum((n) => (n['Rows Removed by Filter'] ?? 0) + (n['Rows Removed by Index Recheck'] ?? 0))}, ` +
      `pages ${plan.Plan['Shared Hit Blocks'] + plan.Plan['Shared Read Blocks']} (${plan.Plan['Shared Read Blocks']} not in shared buffers), ` +
      `execution ${plan['Execution Time']} ms, planning ${plan['Planning Time']} ms`,
  ].join('\n')
}
