import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../engine/package-root.js'
import { CommandLine } from '../test/command-line.js'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { startBus, type Bus } from '../test/kafka/bus.js'

const deploy = (path: string): string => readFileSync(join(packageRoot(), 'deploy', path), 'utf8')

/** Expressions of the dashboard and of the alert rules, each with where it stands. */
function expressions(): { place: string; expr: string }[] {
  const { panels } = JSON.parse(deploy('grafana/dashboards/meterline.json')) as { panels: { title: string; targets: { expr: string }[] }[] }
  const rules = [...deploy('prometheus/rules.yml').matchAll(/- alert: (\w+)\n\s+expr: (.+)/g)]
  return [
    ...panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ place: title, expr }))),
    ...rules.map(([, alert, expr]) => ({ place: alert, expr })),
  ]
}

/** Metric names with the label values asked for; `up` is Prometheus' own. */
function selectors(expr: string): { name: string; labels: Record<string, string> }[] {
  return [...expr.matchAll(/\b((?:meterline|process|nodejs)_[a-z0-9_]+)(?:\{([^}]*)\})?/g)].map(([, name, given]) => ({
    name, labels: Object.fromEntries([...(given ?? '').matchAll(/(\w+)=~?"([^"]*)"/g)].map(([, label, value]) => [label, value])),
  }))
}

describe('the dashboard and the alert rules', () => {
  let db: TestDatabase
  let bus: Bus
  let program: CommandLine
  let url: string
  let text: string
  beforeAll(async () => {
    ;[db, bus] = await Promise.all([testDatabase(), startBus({ mock: true })])
    await bus.topic('meter-reads')
    await bus.topic('meter-reads.dead')
    // A replica that is none: its metrics are there, and the primary answers.
    program = new CommandLine({ DATABASE_URL: db.url, DATABASE_READ_URL: db.url, UTILITY_ZONE: 'America/Chicago', KAFKA_BROKERS: bus.brokers })
    url = await program.serve()
    const headers = { authorization: `Bearer ${program.operatorKey()}`, 'content-type': 'application/json' }
    const send = async (method: string, path: string, body: unknown): Promise<void> => {
      const answer = await fetch(`${url}${path}`, { method, headers, body: JSON.stringify(body) })
      expect(answer.status).toBe(200)
    }
    await send('PUT', '/v1/accounts', [{ account: 'A1' }])
    await send('PUT', '/v1/meters', [{ meter: 'M1', account: 'A1', from: '2026-01-01T00:00:00-06:00' }])
    const midnight = new Date(Math.floor(Date.now() / 86_400_000 - 3) * 86_400_000).toISOString()
    await send('POST', '/v1/reads', [
      { meter: 'M1', start: midnight, intervalSeconds: 900, values: Array.from({ length: 48 }, () => 1) },
      { meter: 'nobody', start: midnight, intervalSeconds: 900, values: [1, 2] },
    ])
    await fetch(`${url}/v1/accounts/A1/usage`, { headers })
    await bus.send('meter-reads', [{ value: 'nothing that can be read' }])
    const metrics = async (): Promise<string> => (await fetch(`${url}/metrics`)).text()
    // Completeness is counted beside the scrape; the dead letter passes through the database.
    const isThere = (): boolean => text.includes('meterline_completeness_ratio{') && text.includes('published_total{outcome="taken"} 1')
    for (text = await metrics(); !isThere(); text = await metrics());
  })
  afterAll(async () => {
    await program.close()
    await bus.close()
    await db.close()
  })

  it('name nothing but metrics that the program shows', () => {
    const used = expressions()
    expect(used.length).toBeGreaterThan(25)
    const families = new Map([...text.matchAll(/^# TYPE (\S+) (\w+)$/gm)].map(([, name, type]) => [name, type]))
    for (const { place, expr } of used) {
      for (const { name } of selectors(expr)) {
        const family = families.get(name) === undefined ? name.replace(/_(bucket|count|sum)$/, '') : name
        expect({ place, name, known: families.has(family), suffix: family === name ? 'none' : families.get(family) })
          .toEqual({ place, name, known: true, suffix: family === name ? 'none' : 'histogram' })
      }
    }
  })

  it('ask for labels that those metrics have', () => {
    const labels = new Map<string, Set<string>>()
    for (const [, name, given] of text.matchAll(/^([a-z0-9_]+)\{([^}]*)\} /gm)) {
      const known = labels.get(name) ?? new Set()
      labels.set(name, known)
      for (const [, label] of given.matchAll(/(\w+)="/g)) known.add(label)
    }
    for (const { place, expr } of expressions()) {
      for (const { name, labels: asked } of selectors(expr)) {
        // A counter of something that has not happened has no series yet.
        if (!labels.has(name)) continue
        expect({ place, missing: Object.keys(asked).filter((label) => !labels.get(name)!.has(label)) }).toEqual({ place, missing: [] })
      }
    }
  })

  it('tell how the data stands', () => {
    const value = (name: string): number => Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1])
    expect(value('meterline_state_up')).toBe(1)
    expect(value('meterline_data_age_seconds')).toBeGreaterThan(86_400)
    expect(value('meterline_delivery_age_seconds')).toBeLessThan(600)
    expect(text).toMatch(/meterline_quarantine_reads\{utility="default",reason="unknown-meter"\} 2/)
    expect(value('meterline_completeness_ratio')).toBe(0)
    expect(value('meterline_missing_reads')).toBe(96)
    expect(text).toMatch(/meterline_api_request_seconds_count\{operation="pushReads",status="2xx"\} 1/)
    expect(text).toMatch(/meterline_kafka_partitions\{state="active"\} 4/)
    expect(text).toMatch(/meterline_kafka_lag_messages\{partition="0"\} \d/)
    expect(value('meterline_kafka_up')).toBe(1)
    expect(value('meterline_kafka_dead_letters_total')).toBe(1)
    expect(text).not.toMatch(/M1|nobody|A1/)
  })
})
