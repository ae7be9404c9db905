import { describe, expect, it } from 'vitest'
import { Bell } from './bell.js'

describe('a bell', () => {
  it('keeps a ring that came while nobody listened, once', async () => {
    const bell = new Bell()
    bell.ring()
    bell.ring()
    expect(await bell.heard(60_000)).toBe(true)
    expect(await bell.heard(1)).toBe(false)
  })

  it('wakes who listens', async () => {
    const bell = new Bell()
    const heard = bell.heard(60_000)
    bell.ring()
    expect(await heard).toBe(true)
  })

  it('ends pauses, those to come too; a ring does not', async () => {
    const bell = new Bell()
    let isOver = false
    const pause = bell.pause(60_000).then(() => {
      isOver = true
    })
    bell.ring()
    await Promise.resolve()
    expect(isOver).toBe(false)
    bell.end()
    await pause
    await bell.pause(60_000)
    expect(await bell.heard(60_000)).toBe(true)
  })
})
