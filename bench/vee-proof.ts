import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../engine/package-root.js'
import { ruleIds } from '../engine/validate/rule-set.js'
import { judgeFaultyFleet, SHIFT_LASTS } from './vee-faults.js'
import { lcl, withhold, zonnedael, type Home } from './withheld.js'

/**
 * Measures what the rules find and what estimates are off by, and writes both into docs/vee.md between its marks:
 * node dist/bench/vee-proof.js [folder with the real files]
 */

const METERS = 500
const DAYS = 90

function rulesTable(): string {
  const o = judgeFaultyFleet({ meters: METERS, days: DAYS, seed: 'vee' })
  const share = (a: number, b: number): string => b === 0 ? '' : `${(a / b * 100).toFixed(1)} %`
  const faults = [...o.faults].map(([name, f]) => `| ${name} | ${f.injected} | ${share(f.found, f.injected)} | ${share(f.byAny, f.injected)} |`)
  const rules = ruleIds.map((id) => {
    const r = o.rules.get(id)!
    return `| ${id} | ${r.meant} | ${share(r.found, r.meant)} | ${r.falseAlarms} | ${(r.falseAlarms / o.cleanDays * 1000).toFixed(2)} |`
  })
  return [
    `${METERS} simulated meters, ${DAYS} days from 2026-01-20, seed \`vee\`; every fault once in every meter (the shift on ${SHIFT_LASTS} days in a row, found when one of them is flagged), ${o.cleanDays} meter-days without a fault, ` +
      `of which ${o.flaggedClean} were flagged by any rule (${share(o.flaggedClean, o.cleanDays)}).`,
    '', `Of the false alarms of \`shift-hour\` ${o.shiftEchoes} are days held against a profile that was made of shifted days nobody had put right.`,
    '', '| fault | injected | found by a rule meant for it | found by any rule |', '|---|---|---|---|', ...faults,
    '', '| rule | faults it is meant for | recall | false alarms | per 1,000 clean meter-days |', '|---|---|---|---|---|', ...rules,
  ].join('\n')
}

function estimatesTable(folder: string | undefined): string | null {
  const sets: [string, Home[], number][] = [['Zonnedael, 56 homes, 15 min', zonnedael(folder), 20], ['LCL MAC000033, 30 min', lcl(folder), 200]]
  if (sets.some(([, homes]) => homes.length === 0)) return null
  const rows = sets.flatMap(([name, homes, perHome]) => [1, 2, 6, 24].map((hours) => {
    const w = withhold(homes, hours, perHome)
    const cell = (e: { perInterval: number; energyShare: number }): string => `${e.perInterval.toFixed(1)} Wh, ${(e.energyShare * 100).toFixed(1)} %`
    return `| ${name} | ${hours} h | ${w.gaps} | ${cell(w.estimate)} | ${cell(w.naive)} | ${cell(w.bounded)} |`
  }))
  return ['Mean absolute error of an interval, and error of the gap\'s energy as a share of all withheld energy.', '',
    '| data | gap | gaps | estimate | naive: the day before | bounded by midnight registers |', '|---|---|---|---|---|---|', ...rows].join('\n')
}

const path = join(packageRoot(), 'docs', 'vee.md')
let text = readFileSync(path, 'utf8')
const put = (mark: string, table: string): void => {
  const [from, to] = [`<!-- ${mark} -->`, `<!-- end of ${mark} -->`]
  text = `${text.slice(0, text.indexOf(from) + from.length)}\n${table}\n${text.slice(text.indexOf(to))}`
}
put('rules measured', rulesTable())
const estimates = estimatesTable(process.argv[2])
if (estimates === null) process.stderr.write('the real files are not there: the table of estimates stays as it is\n')
else put('estimates measured', estimates)
writeFileSync(path, text)
