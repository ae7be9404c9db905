import { describe, expect, it } from 'vitest'
import { groupCommit } from './group-commit.js'

describe('a group commit', () => {
  it('writes alone what comes alone, and together what comes while a write runs, each with its own answer', async () => {
    const groups: number[][] = []
    let release = (): void => undefined
    let started = (): void => undefined
    const isRunning = new Promise<void>((done) => {
      started = done
    })
    const add = groupCommit(async (items: readonly number[]) => {
      groups.push([...items])
      started()
      if (groups.length === 1) await new Promise<void>((done) => {
        release = done
      })
      return items.map((n) => n * 10)
    }, 0, 3)
    const first = add(1)
    await isRunning
    const rest = [2, 3, 4, 5].map(add)
    release()
    expect(await Promise.all([first, ...rest])).toEqual([10, 20, 30, 40, 50])
    expect(groups).toEqual([[1], [2, 3, 4], [5]])
  })

  it('tells every caller of a group that it failed, and goes on with the next', async () => {
    let isFirst = true
    const add = groupCommit((items: readonly string[]) => {
      if (!isFirst) return Promise.resolve(items)
      isFirst = false
      return Promise.reject(new Error('no database'))
    }, 0)
    const failed = await Promise.allSettled([add('a'), add('b')])
    expect(failed.map((f) => f.status)).toEqual(['rejected', 'rejected'])
    expect(await add('c')).toBe('c')
  })
})
