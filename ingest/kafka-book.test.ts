import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lastVersionOf, PartitionBook, type Batch, type Limits, type Run } from './kafka-book.js'

const limits: Limits = { messages: 10, bytes: 1000, ageMs: 40 }

class TestRun implements Run<TestRun> {
  readonly partition: number
  readonly offsets: readonly number[]
  readonly #cost: number

  constructor(partition: number, offsets: readonly number[], cost = 10) {
    this.partition = partition
    this.offsets = offsets
    this.#cost = cost
  }

  get count(): number {
    return this.offsets.length
  }

  get first(): number {
    return this.offsets[0]
  }

  get next(): number {
    return this.offsets[this.count - 1] + 1
  }

  offsetAt(i: number): number {
    return this.offsets[i]
  }

  costOf(count: number): number {
    return count * this.#cost
  }

  part(from: number, to: number): TestRun {
    return new TestRun(this.partition, this.offsets.slice(from, to), this.#cost)
  }
}

const at = (partition: number, offset: number, cost = 10): TestRun => new TestRun(partition, [offset], cost)
const run = (partition: number, from: number, count: number): TestRun[] => [new TestRun(partition, Array.from({ length: count }, (_, i) => from + i))]
const offsets = ({ runs }: Pick<Batch<TestRun>, 'runs'>): number[] => runs.flatMap((r) => r.offsets)

function book(more: Partial<Limits> = {}, next = 0): PartitionBook<TestRun> {
  const made = new PartitionBook<TestRun>({ ...limits, ...more })
  for (const partition of [0, 1]) {
    made.assign(partition)
    made.claimed(partition, { epoch: 3, next, lastVersion: 100, ahead: {} })
  }
  return made
}

describe('the partitions of the Kafka door', () => {
  it('are not read before their position is claimed, and read from it on', () => {
    const b = new PartitionBook<TestRun>(limits)
    b.assign(4)
    b.add(run(4, 0, 5), 0)
    expect([b.state(4), b.position(4), b.waiting, b.take(1e6)]).toEqual(['claiming', undefined, 0, undefined])
    b.claimed(4, { epoch: 1, next: 7, lastVersion: 0, ahead: {} })
    b.add(run(4, 5, 5), 0)
    expect(b.take(40)?.map(offsets)).toEqual([[7, 8, 9]])
  })

  it('wait for company until a message is old, or many or large enough have come', () => {
    const b = book()
    b.add([at(0, 0)], 5)
    expect([b.take(44), b.dueInMs(20)]).toEqual([undefined, 25])
    expect(b.take(45)?.map(offsets)).toEqual([[0]])
    b.add(run(1, 0, 10), 50)
    expect(b.take(50)?.map(offsets)).toEqual([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
    const large = book({ bytes: 30 })
    large.add(run(0, 0, 4), 0)
    expect(large.take(0)?.map(offsets)).toEqual([[0, 1, 2]])
    large.add([at(1, 0, 500)], 0)
    expect(large.take(0)?.map(offsets)).toEqual([[0]])
  })

  it('have one batch in flight each, and number versions on by offsets, never backwards', () => {
    const b = book()
    b.add([at(0, 0), at(0, 2), at(0, 5)], 0)
    const [first] = b.take(40)!
    expect(first).toMatchObject({ epoch: 3, expected: 0, next: 6, version: 101 })
    b.add([at(0, 9)], 41)
    expect(b.take(1000)).toBeUndefined()
    first.version = 5000
    expect(lastVersionOf(first)).toBe(5005)
    expect(b.settled(first)).toBe(true)
    expect(b.take(1000)![0]).toMatchObject({ expected: 6, next: 10, version: 5006 })
  })

  it('take messages that come twice, or from before, once', () => {
    const b = book({}, 3)
    b.add([...run(0, 0, 6), ...run(0, 2, 5)], 0)
    expect(b.take(40)?.map(offsets)).toEqual([[3, 4, 5, 6]])
  })

  it('do not mind a batch of a partition that was given up, or given back and taken again', () => {
    const b = book()
    b.add(run(0, 0, 3), 0)
    const [batch] = b.take(40)!
    b.assign(0)
    b.claimed(0, { epoch: 4, next: 0, lastVersion: 0, ahead: {} })
    expect([b.settled(batch), b.halve(batch), b.isCurrent(batch), b.position(0), b.cost]).toEqual([false, false, false, 0, 0])
    b.remove(0)
    expect([b.state(0), b.settled(batch)]).toEqual([undefined, false])
  })

  it('stopped, tell why, and do not hold the others up', () => {
    const b = book()
    b.add([...run(0, 0, 2), ...run(1, 0, 2)], 0)
    b.stop(0, 'no such offset')
    b.add(run(0, 2, 2), 0)
    expect(b.stopped()).toEqual([{ partition: 0, reason: 'no such offset' }])
    expect([b.position(0), b.cost, b.take(40)?.map((x) => x.partition)]).toEqual([undefined, 20, [1]])
  })

  it('drained, settle what is in flight and take no more', () => {
    const b = book()
    b.add(run(0, 0, 12), 0)
    const [batch] = b.take(40)!
    b.drain(0)
    b.add(run(0, 12, 5), 50)
    expect([b.waiting, b.busy(0), b.cost]).toEqual([0, true, 100])
    expect([b.settled(batch), b.position(0), b.cost, b.take(1e6)]).toEqual([true, 10, 0, undefined])
  })

  it('keep what other utilities have settled beyond the position until the position is past it', () => {
    const b = new PartitionBook<TestRun>(limits)
    b.assign(0)
    b.claimed(0, { epoch: 1, next: 0, lastVersion: 0, ahead: { 1: 20, 2: 4 } })
    b.add(run(0, 0, 10), 0)
    const [batch] = b.take(40)!
    expect(batch.ahead).toEqual({ 1: 20, 2: 4 })
    b.settled(batch)
    b.add(run(0, 10, 1), 50)
    expect(b.take(100)![0].ahead).toEqual({ 1: 20 })
  })

  it('spread versions over gaps of offsets within bounds', () => {
    const b = book()
    b.add([at(0, 0), at(0, 5_000_000)], 0)
    const [first] = b.take(40)!
    expect(offsets(first)).toEqual([0])
    b.settled(first)
    const [second] = b.take(80)!
    expect([second.expected, offsets(second), second.version]).toEqual([1, [5_000_000], 102])
  })

  it('are searched by halves for the message that cannot be settled, and grow again', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 64 }), fc.array(fc.nat(63), { maxLength: 3 }), (count, bad) => {
      const b = book({ messages: 64 })
      b.add(run(0, 0, count), 0)
      const dead: number[] = []
      const settled: number[] = []
      let tries = 0
      let nowMs = 40
      for (let batch = b.take(nowMs)?.[0]; batch !== undefined; batch = b.take(nowMs += 40)?.[0]) {
        tries++
        const culprits = offsets(batch).filter((o) => bad.includes(o))
        if (culprits.length > 0 && batch.count > 1) b.halve(batch)
        else {
          dead.push(...culprits)
          settled.push(...offsets(batch))
          b.settled(batch)
        }
      }
      expect(settled).toEqual(offsets({ runs: run(0, 0, count) }))
      expect(dead).toEqual([...new Set(bad)].filter((o) => o < count).sort((x, y) => x - y))
      expect([b.position(0), b.cost, b.waiting]).toEqual([count, 0, 0])
      // Each culprit costs two searches down the halves at most, and what grows again after it.
      expect(tries).toBeLessThanOrEqual(1 + 20 * new Set(bad).size)
    }))
  })

  it('settle every message once and in order, and count what is held, whatever comes between', () => {
    const partition = fc.constantFrom(0, 1)
    const step = fc.oneof(
      fc.record({ do: fc.constant('add' as const), partition, skip: fc.nat(3), count: fc.integer({ min: 1, max: 15 }) }),
      fc.record({ do: fc.constant('take' as const) }),
      fc.record({ do: fc.constantFrom('settle' as const, 'halve' as const), n: fc.nat(3) }),
      fc.record({ do: fc.constantFrom('stop' as const, 'reclaim' as const, 'drain' as const), partition }),
    )
    fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const b = book({ bytes: 200 })
      const flying: Batch<TestRun>[] = []
      /** What the database knows: position, and the offsets settled. */
      const next = [0, 0]
      const done: number[][] = [[], []]
      /** The broker's log, in which offsets may be missing; and how far the client has read it. */
      const log: number[][] = [[], []]
      const read = [0, 0]
      let epoch = 3
      let nowMs = 0
      for (const s of steps) {
        nowMs += 50
        switch (s.do) {
          case 'add': {
            const from = (log[s.partition].at(-1) ?? -1) + 1 + s.skip
            for (let i = 0; i < s.count; i++) log[s.partition].push(from + i)
            const news = log[s.partition].slice(read[s.partition])
            b.add(s.skip === 0 ? [new TestRun(s.partition, news)] : news.map((offset) => at(s.partition, offset)), nowMs)
            read[s.partition] = log[s.partition].length
            break
          }
          case 'take':
            flying.push(...b.take(nowMs) ?? [])
            break
          case 'settle':
          case 'halve': {
            const [batch] = flying.splice(s.n % Math.max(1, flying.length), 1)
            if (batch === undefined) break
            if (s.do === 'halve') b.halve(batch)
            else if (b.settled(batch)) {
              expect(batch.expected).toBe(next[batch.partition])
              next[batch.partition] = batch.next
              done[batch.partition].push(...offsets(batch))
            }
            break
          }
          case 'stop':
            b.stop(s.partition, 'test')
            break
          case 'drain':
            b.drain(s.partition)
            break
          case 'reclaim':
            b.assign(s.partition)
            b.claimed(s.partition, { epoch: ++epoch, next: next[s.partition], lastVersion: 0, ahead: {} })
            read[s.partition] = log[s.partition].findIndex((o) => o >= next[s.partition])
            if (read[s.partition] < 0) read[s.partition] = log[s.partition].length
        }
        const current = flying.filter((batch) => b.isCurrent(batch))
        expect(b.cost).toBe(10 * (b.waiting + current.reduce((sum, batch) => sum + batch.count, 0)))
        expect(new Set(current.map((batch) => batch.partition)).size).toBe(current.length)
        for (const p of [0, 1]) expect(done[p]).toEqual(log[p].slice(0, done[p].length))
      }
    }), { numRuns: 300 })
  })
})
