import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, describe, expect, test } from 'vitest'
import { isAlive, ownMark, processMark, withFolderLock } from './folder-lock.js'

const folder = mkdtempSync(join(tmpdir(), 'meterline-lock-'))
afterAll(() => { rmSync(folder, { recursive: true, force: true }) })
const nobodyWaits = () => undefined

describe('process marks', () => {
  test('a process is alive until it ends, and another with its id is not it', async () => {
    const child = spawn('sleep', ['60'])
    const mark = processMark(child.pid ?? -1)
    expect(mark !== undefined && isAlive(mark)).toBe(true)
    expect(isAlive({ pid: child.pid ?? -1, born: 'another boot 1' })).toBe(false)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(mark !== undefined && isAlive(mark)).toBe(false)
    expect(isAlive(ownMark())).toBe(true)
  })
})

describe('the lock', () => {
  test('lets one in at a time and is free after an error', async () => {
    const path = join(folder, 'one')
    let inside = 0
    let most = 0
    await Promise.all(Array.from({ length: 8 }, (_, i) => withFolderLock(path, nobodyWaits, async () => {
      inside += 1
      most = Math.max(most, inside)
      await delay(5)
      inside -= 1
      if (i === 3) throw new Error('inside')
    }).catch((err: unknown) => { if (!(err instanceof Error) || err.message !== 'inside') throw err })))
    expect(most).toBe(1)
    expect(existsSync(path)).toBe(false)
  })

  test('of a process that was killed is taken, by one of those who wait', async () => {
    const path = join(folder, 'dead')
    const child = spawn('sleep', ['60'])
    const mark = processMark(child.pid ?? -1)
    writeFileSync(path, JSON.stringify(mark))
    let inside = 0
    let most = 0
    const waiting = Promise.all(Array.from({ length: 6 }, () => withFolderLock(path, nobodyWaits, async () => {
      inside += 1
      most = Math.max(most, inside)
      await delay(5)
      inside -= 1
    })))
    await delay(200)
    expect(most).toBe(0)
    child.kill('SIGKILL')
    await waiting
    expect(most).toBe(1)
  })
})
