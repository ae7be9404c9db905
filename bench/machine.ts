import { execFileSync } from 'node:child_process'
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os'
import { packageRoot } from '../engine/package-root.js'

/** What a result was measured on: without it a figure says nothing. */
export interface Machine {
  cpu: string
  cores: number
  memoryGb: number
  system: string
  /** One-minute load average when the run began: what else was going on. */
  loadAtStart: number
  node: string
  commit: string
  date: string
  command: string
}

export function describeMachine(command: string): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGb: Math.round(totalmem() / 2 ** 30 * 10) / 10,
    system: `${type()} ${release()}`,
    loadAtStart: Math.round(loadavg()[0] * 100) / 100,
    node: process.version,
    commit: commit(),
    date: new Date().toISOString(),
    command,
  }
}

/** Commit of the checkout, with a plus sign where files differ from it. */
function commit(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', ['--no-optional-locks', ...args], { cwd: packageRoot(), encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no') !== ''
    return `${git('rev-parse', '--short', 'HEAD')}${changed ? '+' : ''}`
  } catch {
    return 'unknown'
  }
}
