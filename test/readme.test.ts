import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { settingsTable } from '../engine/config.js'
import { CommandLine } from './command-line.js'
import { testDatabase, type TestDatabase } from './database.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const text = (path: string): string => readFileSync(join(ROOT, path), 'utf8')
const readme = text('README.md')

/** Fenced blocks by the words after their fence, such as `sh run`. */
function blocks(info: string): string[] {
  return [...readme.matchAll(/^```(.*)\n([^]*?)^```$/gm)].filter(([, words]) => words === info).map(([, , body]) => body)
}

function tableOfSettings(): string {
  const cell = (value: string): string => value.replaceAll('|', '\\|')
  return ['| name | default | meaning |', '|---|---|---|', ...settingsTable().map(({ name, default: fallback, meaning }) =>
    `| \`${name}\` | ${cell(fallback)} | ${cell(meaning)} |`)].join('\n')
}

describe('the README', () => {
  it('has the settings as the program has them', () => {
    const shown = /<!-- settings:.*-->\n([^]*?)\n?<!-- \/settings -->/.exec(readme)?.[1]
    expect(shown, 'put this table between the marks').toBe(tableOfSettings())
  })

  it('names no command and no script that does not exist', () => {
    const usage = text('meterline.ts')
    const commands = [...readme.matchAll(/\bmeterline ([a-z]+)\b/g)].map(([, command]) => command)
      .filter((word) => word !== 'load' || usage.includes('meterline load'))
    for (const command of new Set(commands)) expect(usage, `meterline ${command}`).toContain(`case '${command}':`)
    const { scripts } = JSON.parse(text('package.json')) as { scripts: Record<string, string> }
    for (const [, script] of readme.matchAll(/\bnpm run ([a-z:]+)/g)) expect(Object.keys(scripts)).toContain(script)
  })

  it('links to files that exist', () => {
    for (const [, path] of readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)) expect(() => text(path), path).not.toThrow()
    for (const [, path] of readme.matchAll(/`((?:ingest|engine|api|cli|fixtures|test)\/[\w/.-]+\.\w+)`/g)) expect(() => text(path), path).not.toThrow()
  })
})

describe('the commands of the README', () => {
  let db: TestDatabase
  let folder: string
  let program: CommandLine
  let url: string

  beforeAll(async () => {
    db = await testDatabase()
    // A checkout of its own: what the blocks write under .meterline must not land in this one.
    folder = mkdtempSync(join(tmpdir(), 'meterline-readme-'))
    for (const name of ['dist', 'fixtures', 'node_modules', 'package.json']) symlinkSync(join(ROOT, name), join(folder, name))
    mkdirSync(join(folder, '.meterline'))
    const settings = { DATABASE_URL: db.url, UTILITY_ZONE: 'America/Chicago', METERLINE_DIR: join(folder, '.meterline') }
    program = new CommandLine(settings)
    url = await program.serve()
  })
  afterAll(async () => {
    await program.close()
    await db.close()
    rmSync(folder, { recursive: true, force: true })
  })

  it('do what the README says', async () => {
    const printed: string[] = []
    for (const block of blocks('sh run')) {
      const script = block.replaceAll('http://127.0.0.1:8080', url)
      const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', script], {
        cwd: folder, env: { PATH: process.env.PATH, HOME: process.env.HOME, DATABASE_URL: db.url } })
      printed.push(stdout)
    }
    const lines = printed.join('\n').split('\n')
    const receipt = JSON.parse(lines.find((line) => line.startsWith('{"delivery"')) ?? 'null') as Record<string, unknown>
    const [stated] = blocks('json receipt').map((body) => JSON.parse(body) as Record<string, unknown>)
    expect({ ...receipt, delivery: null }).toEqual({ ...stated, delivery: null })
    const total = /`("total":.*?)`/.exec(readme)?.[1]
    expect(total).toBeDefined()
    expect(printed.join('\n')).toContain(total)
  })
})
