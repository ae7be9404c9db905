import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** Processes told apart for good, and a lock between processes on a folder that a killed holder does not keep. */

/** A process: its id, and what tells it from a later process with the same id (undefined where the system tells nothing). */
export interface ProcessMark {
  pid: number
  born?: string
}

let bootId: string | undefined

/**
 * What tells a live process from others that had or will have its id; undefined when there is no such process, also
 * when it has ended and only waits to be reaped.
 */
export function processMark(pid: number): ProcessMark | undefined {
  if (process.platform === 'linux') {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      // Fields after the command, which is in brackets and may hold anything: state is the 1st, start time the 20th.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (fields[0] === 'Z' || fields[0] === 'X') return undefined
      bootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
      return { pid, born: `${bootId} ${fields[19]}` }
    } catch (err) {
      // /proc may be hidden from us (hidepid); then the id alone has to do.
      if ((err as NodeJS.ErrnoException).code !== 'ENOENT' && (err as NodeJS.ErrnoException).code !== 'ESRCH') return exists(pid) ? { pid } : undefined
      return undefined
    }
  }
  if (!exists(pid)) return undefined
  try {
    const born = execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
    return { pid, born }
  } catch {
    return { pid }
  }
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (err) {
    return (err as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** True while the process of this mark lives. */
export function isAlive(mark: ProcessMark): boolean {
  const now = processMark(mark.pid)
  return now !== undefined && (now.born === undefined || mark.born === undefined || now.born === mark.born)
}

/** Mark of this process. */
export function ownMark(): ProcessMark {
  return processMark(process.pid) ?? { pid: process.pid }
}

/**
 * Runs `work` while holding the lock file, waiting as long as its holder lives. The lock of a process that died is taken.
 * @param onWait told once, after five seconds of waiting, who holds it
 */
export async function withFolderLock<T>(path: string, onWait: (holder: ProcessMark) => void, work: () => Promise<T>): Promise<T> {
  const mine = `${path}.${randomUUID()}`
  writeFileSync(mine, JSON.stringify({ ...ownMark(), id: mine }), { mode: 0o600 })
  try {
    for (let waited = 0; !take(mine, path); waited += 50) {
      const holder = readHolder(path)
      if (holder !== undefined && !isAlive(holder)) breakLock(path)
      else {
        if (waited === 5000 && holder !== undefined) onWait(holder)
        await delay(50)
      }
    }
  } finally {
    rmSync(mine, { force: true })
  }
  try {
    return await work()
  } finally {
    rmSync(path, { force: true })
  }
}

/** Linking is atomic and the file is complete when it appears under the lock's name. */
function take(mine: string, path: string): boolean {
  try {
    linkSync(mine, path)
    return true
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw err
  }
}

function readHolder(path: string): ProcessMark | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as ProcessMark
  } catch {
    // Released in between, or written by something else: looked at again in the next round.
    return undefined
  }
}

/** Moves a dead holder's lock away; puts back what another process took between our look and the move. */
function breakLock(path: string): void {
  const aside = `${path}.${randomUUID()}`
  try {
    renameSync(path, aside)
  } catch {
    return
  }
  const holder = readHolder(aside)
  if (holder !== undefined && isAlive(holder)) take(aside, path)
  rmSync(aside, { force: true })
}
