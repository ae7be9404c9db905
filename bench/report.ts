import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../engine/package-root.js'
import type { DatabaseFacts } from './instance.js'
import type { Machine } from './machine.js'
import { figure, spreadText, type Spread } from './statistics.js'

/** One measured quantity. */
export interface Measure {
  name: string
  unit: string
  spread: Spread
  /** Name of the measure of the same run that this one is set against; the ratio is that of the medians. */
  floor?: string
}

/** What a scenario came to. */
export interface Outcome {
  /** What was done, in a sentence or two: sizes, connections, order. */
  about: string
  measures: Measure[]
  /** Further lines for the report, such as plans. */
  notes?: string[]
  /** Anything else worth keeping in the JSON. */
  detail?: Record<string, unknown>
  /** Of a scenario that has one. */
  database?: DatabaseFacts
}

/** Prints a scenario's table and keeps it, where it is whole, in bench/results as JSON and Markdown. */
export function report(scenario: string, machine: Machine, outcome: Outcome, isWhole = true): void {
  const { measures, database } = outcome
  const rows = measures.map((m) => {
    const floor = measures.find((f) => f.name === m.floor)
    return [m.name, spreadText(m.spread), m.unit, String(m.spread.samples.length),
      floor === undefined ? '' : `${(m.spread.median / floor.spread.median).toFixed(2)} of ${floor.name}`]
  })
  const head = ['measure', 'median (min - max)', 'unit', 'samples', 'ratio']
  const conditions = [
    `${machine.date}, commit ${machine.commit}, \`${machine.command}\``,
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGb} GB, ${machine.system}; load average at the start ${machine.loadAtStart}`,
    database === undefined ? `Node ${machine.node}` : `Node ${machine.node}, ${database.version}, storage mode ${database.storageMode}; ` +
      Object.entries(database.settings).map(([k, v]) => `${k} ${v}`).join(', '),
  ]
  const notes = outcome.notes ?? []
  process.stdout.write(`\n${scenario}: ${outcome.about}\n${conditions.join('\n')}\n\n${table(head, rows)}\n${notes.map((n) => `${n}\n`).join('')}`)
  if (!isWhole) return

  const folder = join(packageRoot(), 'bench', 'results')
  mkdirSync(folder, { recursive: true })
  const base = join(folder, `${machine.date.slice(0, 10)}-${scenario}`)
  writeFileSync(`${base}.json`, `${JSON.stringify({ scenario, machine, ...outcome, ratios: ratios(measures) }, null, 2)}\n`)
  writeFileSync(`${base}.md`, [
    `# ${scenario}`, '', outcome.about, '', ...conditions.map((c) => `- ${c}`), '',
    `| ${head.join(' | ')} |`, `|${head.map(() => '---').join('|')}|`, ...rows.map((r) => `| ${r.join(' | ')} |`), '',
    ...notes.flatMap((n) => [n, '']),
  ].join('\n'))
}

function ratios(measures: readonly Measure[]): Record<string, number> {
  const out: Record<string, number> = {}
  for (const m of measures) {
    const floor = measures.find((f) => f.name === m.floor)
    if (floor !== undefined) out[`${m.name} / ${floor.name}`] = m.spread.median / floor.spread.median
  }
  return out
}

function table(head: string[], rows: string[][]): string {
  const widths = head.map((h, i) => Math.max(h.length, ...rows.map((r) => r[i].length)))
  return [head, ...rows].map((r) => `  ${r.map((c, i) => c.padEnd(widths[i])).join('  ').trimEnd()}\n`).join('')
}

/** A progress line on standard error. */
export function say(text: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`)
}

export { figure }
