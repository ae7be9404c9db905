import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { testDatabase, type TestDatabase } from '../../test/database.js'
import { ensureUtility } from '../access.js'
import { afterRegistryChange, type RegistryChange } from '../registry-effects.js'
import { applyAccounts } from './accounts.js'
import { applyMeters } from './meters.js'
import { readMeters } from './read.js'
import type { RawRecord } from './records.js'
import { parseRegistryBody } from './records.js'

vi.mock('../registry-effects.js', () => ({ afterRegistryChange: vi.fn(() => Promise.resolve()) }))

let db: TestDatabase
let utilityId = 0
let utilities = 0
const by = { actor: 'test', now: new Date('2026-11-20T12:00:00Z'), secrets: { secretKey: Buffer.alloc(32, 7) } }

beforeAll(async () => {
  db = await testDatabase()
})
afterAll(async () => db.close())
beforeEach(async () => {
  utilityId = (await ensureUtility(db.pool, `u${utilities++}`, { zone: 'America/Chicago' })).utilityId
  vi.mocked(afterRegistryChange).mockClear()
})

const raw = (...values: unknown[]): RawRecord[] => values.map((value, i) => ({ place: `record ${i + 1}`, value }))
const accounts = (...values: unknown[]) => applyAccounts(db.pool, utilityId, raw(...values), by)
const meters = async (...values: unknown[]) => (await applyMeters(db.pool, utilityId, raw(...values), by)).receipt
const epoch = async (): Promise<number> => {
  const { rows } = await db.pool.query<{ registry_epoch: number }>('select registry_epoch from utility where utility_id = $1', [utilityId])
  return rows[0].registry_epoch
}
const view = async (id: string) => (await readMeters(db.pool, { utilityId, id, after: null, limit: 1, accounts: null }))[0]
const lastChange = (): RegistryChange | undefined => vi.mocked(afterRegistryChange).mock.lastCall?.[1]

describe('accounts', () => {
  it('keeps what is left out, clears what is null, and repeats without a trace', async () => {
    const record = { account: '0001', nickname: 'Lake', billingDay: 15, rate: { id: 'R1', from: '2026-01-01' }, groups: { substation: 'S1', class: 'A' }, zone: 'America/Denver' }
    expect(await accounts(record)).toMatchObject({ received: 1, created: 1 })
    const before = await epoch()
    expect(await accounts(record, { account: '0001' })).toMatchObject({ received: 2, unchanged: 2, changed: 0 })
    expect(await epoch()).toBe(before)
    expect(await accounts({ account: '0001', nickname: null, groups: { class: null } })).toMatchObject({ changed: 1 })
    const { rows } = await db.pool.query('select nickname, billing_day, rate, groups, zone from account where utility_id = $1', [utilityId])
    expect(rows).toEqual([{ nickname: null, billing_day: 15, rate: { id: 'R1', from: '2026-01-01' }, groups: { substation: 'S1' }, zone: 'America/Denver' }])
  })

  it('refuses bad records one by one, with their places', async () => {
    const receipt = await accounts({ account: 'A' }, { account: 7 }, { account: 'B', colour: 'red' }, { account: 'C', billingDay: 32 },
      { account: 'D', zone: 'Mars/Olympus' }, null, { account: 'bad\u0000' }, { account: 'E', name: '\ud800' }, { account: 'Ü😀' })
    expect(receipt).toMatchObject({ received: 9, created: 2, rejected: 7 })
    expect(receipt.problems.map((p) => [p.code, p.at])).toEqual([
      ['invalid-record', 'record 2 /account'], ['unknown-member', 'record 3 /colour'], ['invalid-record', 'record 4 /billingDay'],
      ['unknown-zone', 'record 5 /zone'], ['invalid-record', 'record 6'], ['invalid-record', 'record 7 /account'], ['invalid-record', 'record 8 /name']])
  })

  it('tells of a changed billing day, not of a changed name', async () => {
    await accounts({ account: 'A', billingDay: 1 }, { account: 'B' })
    await accounts({ account: 'A', name: 'x' })
    expect(lastChange()?.accountIds).toEqual([])
    await accounts({ account: 'A', billingDay: 2 })
    expect(lastChange()?.accountIds).toHaveLength(1)
  })
})

describe('meters', () => {
  beforeEach(async () => {
    await accounts({ account: 'A' }, { account: 'B' })
  })

  it('moves a meter from account to account, and says the same again without a trace', async () => {
    const moveIn = { meter: 'M1', account: 'A', servicePoint: 'SP1', from: '2024-03-05T10:30:00-06:00' }
    const moveOn = { meter: 'M1', account: 'B', from: '2025-07-01' }
    expect(await meters(moveIn)).toMatchObject({ created: 1 })
    expect(await meters(moveOn)).toMatchObject({ changed: 1 })
    expect((await view('M1')).assignments).toEqual([
      { account: 'A', servicePoint: 'SP1', from: '2024-03-05T10:30:00-06:00', to: '2025-07-01T00:00:00-05:00' },
      { account: 'B', servicePoint: null, from: '2025-07-01T00:00:00-05:00', to: null }])
    expect(lastChange()).toMatchObject({ moves: [{ toS: null }, { toS: expect.any(Number) as number }, { toS: null }], accountIds: [expect.any(Number), expect.any(Number)] })
    const before = await epoch()
    expect(await meters(moveIn, moveOn)).toMatchObject({ unchanged: 2 })
    expect(await epoch()).toBe(before)
    expect(await meters({ meter: 'M1', account: null, from: '2026-01-01' })).toMatchObject({ changed: 1 })
    expect((await view('M1')).assignments[1].to).toBe('2026-01-01T00:00:00-06:00')
  })

  it('takes a whole history as rows of one file', async () => {
    const csv = 'meter,account,servicePoint,from,to\nM1,A,SP1,2020-01-01,2022-01-01\nM1,B,SP1,2022-01-01,\nM2,A,,2020-01-01,\n'
    const records = parseRegistryBody('meters', 'text/csv', Buffer.from(csv))
    expect((await applyMeters(db.pool, utilityId, records, by)).receipt).toMatchObject({ received: 3, created: 2, changed: 1 })
    expect((await applyMeters(db.pool, utilityId, records, by)).receipt).toMatchObject({ unchanged: 3 })
  })

  it('replaces the list of assignments, and refuses overlaps and unknown accounts alone', async () => {
    await meters({ meter: 'M1', assignments: [{ account: 'A', from: '2020-01-01', to: '2021-01-01' }, { account: 'B', from: '2021-01-01' }] })
    expect(await meters(
      { meter: 'M1', assignments: [{ account: 'A', from: '2020-01-01' }, { account: 'B', from: '2021-01-01' }] },
      { meter: 'M1', account: 'A', from: '2019-01-01' },
      { meter: 'M2', account: 'Z', from: '2019-01-01' },
      { meter: 'M3', account: 'A' },
      { meter: 'M4', account: 'A', from: 'yesterday' },
      { meter: 'M5', assignments: [{ account: 'A', from: '2020-01-01', to: '2019-01-01' }] },
      { meter: 'M6', intervalSeconds: 700 },
      { meter: 'M7', role: 'spare' },
    )).toMatchObject({ rejected: 8, created: 0, problems: [
      { code: 'assignment-overlap', at: 'record 1 /assignments' }, { code: 'assignment-overlap', at: 'record 2 /from' },
      { code: 'unknown-account' }, { code: 'assignment-incomplete' }, { code: 'invalid-instant', at: 'record 5 /from' },
      { code: 'invalid-record', at: 'record 6 /assignments/0' }, { code: 'invalid-record' }, { code: 'invalid-record', at: 'record 8 /role' }] })
    expect(await meters({ meter: 'M1', assignments: [{ account: 'B', from: '2020-06-01' }] })).toMatchObject({ changed: 1 })
    expect((await view('M1')).assignments).toHaveLength(1)
    expect(await meters({ meter: 'M1', assignments: null })).toMatchObject({ changed: 1 })
    expect((await view('M1')).assignments).toEqual([])
  })

  it('lets a name belong to one meter only, and move in one write', async () => {
    const first = await applyMeters(db.pool, utilityId, raw({ meter: 'M1', aliases: ['e1', 'e2'] }), by)
    expect(first.newNames).toBe(true)
    expect(await meters({ meter: 'M2', aliases: ['e1'] }, { meter: 'e2' }, { meter: 'M3', aliases: ['M1'] }, { meter: 'M4', aliases: ['M4'] }))
      .toMatchObject({ rejected: 4, problems: Array.from({ length: 4 }, () => ({ code: 'alias-taken' })) })
    const moved = await applyMeters(db.pool, utilityId, raw({ meter: 'M1', aliases: ['e2'] }, { meter: 'M2', aliases: ['e1'] }), by)
    expect(moved).toMatchObject({ newNames: true, receipt: { changed: 1, created: 1 } })
    expect((await applyMeters(db.pool, utilityId, raw({ meter: 'M1', role: 'sub' }), by)).newNames).toBe(false)
    expect(lastChange()?.roleChanges).toEqual([{ meterId: expect.any(Number) as number, from: 'main', to: 'sub' }])
  })

  it('stamps the epoch on what changed only', async () => {
    await meters({ meter: 'M1' }, { meter: 'M2', multiplier: 40.5, flows: ['delivered', 'received'], serviceKw: 48, intervalSeconds: 900 })
    await meters({ meter: 'M1', status: 'removed' }, { meter: 'M2', multiplier: 40.5 })
    const { rows } = await db.pool.query<{ id: string; epoch: number }>('select id, epoch from meter where utility_id = $1 order by id', [utilityId])
    const now = await epoch()
    expect(rows.map((r) => r.epoch === now)).toEqual([true, false])
  })

  it('keeps utilities apart', async () => {
    await meters({ meter: 'M1', aliases: ['e1'], account: 'A', from: '2024-01-01' })
    utilityId = (await ensureUtility(db.pool, `u${utilities++}`)).utilityId
    expect(await meters({ meter: 'M1', aliases: ['e1'], account: 'A', from: '2024-01-01T00:00:00Z' })).toMatchObject({ problems: [{ code: 'unknown-account' }] })
    expect(await meters({ meter: 'M1', aliases: ['e1'], from: '2024-01-01' })).toMatchObject({ problems: [{ code: 'assignment-incomplete' }] })
    await accounts({ account: 'A' })
    expect(await meters({ meter: 'M1', aliases: ['e1'], account: 'A', from: '2024-01-01' })).toMatchObject({ problems: [{ code: 'utility-zone-unset' }] })
    expect(await meters({ meter: 'M1', aliases: ['e1'], account: 'A', from: '2024-01-01T00:00:00Z' })).toMatchObject({ created: 1 })
  })

  it('takes 50,000 meters in one call, in seconds', async () => {
    const n = 50_000
    const homes = Array.from({ length: n }, (_, i) => ({ account: `H${i}`, billingDay: i % 28 + 1, groups: { substation: `S${i % 9}` } }))
    const list = homes.map((h, i) => ({ meter: `M${i}`, aliases: [`E${i}`], intervalSeconds: 900, account: h.account, from: '2024-01-01T00:00:00Z' }))
    const timings: string[] = []
    const timed = async (name: string, work: () => Promise<unknown>): Promise<unknown> => {
      const start = performance.now()
      const result = await work()
      timings.push(`${name} ${Math.round(performance.now() - start)} ms`)
      return result
    }
    expect(await timed('accounts', () => accounts(...homes))).toMatchObject({ created: n })
    expect(await timed('meters', () => meters(...list))).toMatchObject({ created: n, rejected: 0 })
    expect(await timed('again', () => meters(...list))).toMatchObject({ unchanged: n })
    const moved = list.map((m, i) => ({ ...m, account: `H${(i + 1) % n}`, from: '2025-01-01T00:00:00Z' }))
    expect(await timed('all moved', () => meters(...moved))).toMatchObject({ changed: n })
    process.stdout.write(`50,000 of the registry: ${timings.join(', ')}\n`)
  })
})

describe('bodies', () => {
  it('reads JSON, NDJSON and CSV alike', () => {
    const values = (type: string, text: string) => parseRegistryBody('accounts', type, Buffer.from(text)).map((r) => r.problem ?? r.value)
    const expected = [{ account: '0001', billingDay: 5 }, { account: '2', nickname: null, groups: { substation: 'S1' } }]
    expect(values('application/json', JSON.stringify(expected))).toEqual(expected)
    expect(values('application/json; charset=utf-8', JSON.stringify({ accounts: expected }))).toEqual(expected)
    expect(values('accounts.ndjson', expected.map((e) => JSON.stringify(e)).join('\r\n'))).toEqual(expected)
    expect(values('text/csv', '\ufeffaccount,billingDay,nickname,groups.substation\r\n0001,5,,\r\n2,,null,S1\r\n')).toEqual(expected)
    expect(values('a.csv', 'account;rate;rate.from\n1;R1;2026-01-01\n')).toEqual([{ account: '1', rate: { id: 'R1', from: '2026-01-01' } }])
  })

  it('says what cannot be read, and where', () => {
    const parse = (type: string, text: string | Buffer) => () => parseRegistryBody('meters', type, Buffer.from(text))
    expect(parse('application/json', '[1,')).toThrow(expect.objectContaining({ status: 400, code: 'malformed-json' }))
    expect(parse('application/json', '{}')).toThrow(expect.objectContaining({ status: 422 }))
    expect(parse('image/png', '')).toThrow(expect.objectContaining({ status: 415 }))
    expect(parse('text/csv', '')).toThrow(expect.objectContaining({ code: 'malformed-csv' }))
    expect(parse('text/csv', 'meter,colour\nM,red')).toThrow(expect.objectContaining({ code: 'unknown-column' }))
    expect(parse('text/csv', Buffer.from([0xff, 0xfe, 0x41]))).toThrow(expect.objectContaining({ code: 'malformed-body' }))
    expect(parse('application/x-ndjson', '{"meter":"A"}\n{"meter":')()[1].problem).toMatchObject({ code: 'malformed-record', at: 'line 2' })
    expect(parse('text/csv', 'meter,role\nA,main\nB')()[1].problem).toMatchObject({ code: 'malformed-record', at: 'line 3' })
  })
})
