import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testServer, type TestServer } from '../test/api-server.js'
import { testDatabase, type TestDatabase } from '../test/database.js'
import { ensureUtility } from '../engine/access.js'
import type { Principal } from './context.js'
import { clip, ownSources, requireAccount, requireMeter } from './guards.js'

let db: TestDatabase
let server: TestServer
let portal: Principal
let operator = ''
let root = ''

beforeAll(async () => {
  db = await testDatabase()
  server = testServer(db.pool)
  operator = await server.key('u', 'operator')
  root = await server.key('u', 'operator', { name: 'root', installation: true })
  const { utilityId } = await ensureUtility(db.pool, 'u', { zone: 'America/Chicago' })
  portal = {
    actor: 'key:p', role: 'portal', utilityId, utility: 'u', installation: false, sources: [], name: 'p', accounts: null }
  await server.call(operator, 'PUT', '/v1/accounts', [{ account: 'A' }, { account: 'B' }])
  await server.call(operator, 'PUT', '/v1/meters', [{ meter: 'M', aliases: ['e'], assignments: [
    { account: 'A', from: '2024-01-01T00:00:00Z', to: '2024-02-01T00:00:00Z' },
    { account: 'B', from: '2024-02-01T00:00:00Z', to: '2024-03-01T00:00:00Z' },
    { account: 'A', from: '2024-03-01T00:00:00Z', to: '2024-04-01T00:00:00Z' },
    { account: 'A', from: '2024-04-01T00:00:00Z' }] }])
})
afterAll(async () => {
  await server.app.close()
  await db.close()
})

const s = (text: string): number => Date.parse(text) / 1000
const member = (...accounts: string[]): Principal => ({ ...portal, role: 'member', accounts: new Set(accounts) })

describe('guards', () => {
  it('gives a key the whole meter and a member the time it was theirs', async () => {
    expect((await requireMeter(server.context, portal, 'e'))).toMatchObject({
      meter: 'M', zone: 'America/Chicago', windows: [{ fromS: -Infinity, toS: Infinity }] })
    const mine = await requireMeter(server.context, member('A'), 'M')
    expect(mine.windows).toEqual([
      { fromS: s('2024-01-01'), toS: s('2024-02-01') }, { fromS: s('2024-03-01'), toS: Infinity }])
    expect(clip(mine.windows, { fromS: s('2024-01-15'), toS: s('2024-03-15') })).toEqual([
      { fromS: s('2024-01-15'), toS: s('2024-02-01') }, { fromS: s('2024-03-01'), toS: s('2024-03-15') }])
    await expect(requireMeter(server.context, member('C'), 'M')).rejects.toMatchObject({ status: 404, code: 'meter-not-found' })
    await expect(requireMeter(server.context, member(), 'M')).rejects.toMatchObject({ status: 404 })
  })

  it('lets a member reach an account of the token only', async () => {
    expect(await requireAccount(server.context, member('A'), 'A')).toMatchObject({ account: 'A', zone: 'America/Chicago' })
    await expect(requireAccount(server.context, member('A'), 'B')).rejects.toMatchObject({ status: 404, code: 'account-not-found' })
    await expect(requireAccount(server.context, member('Z'), 'Z')).rejects.toMatchObject({ status: 404 })
  })

  it('asks for the zone first', async () => {
    const { utilityId } = await ensureUtility(db.pool, 'zoneless')
    const key = await server.key('zoneless', 'operator')
    await server.call(key, 'PUT', '/v1/accounts', [{ account: 'A' }])
    await expect(requireAccount(server.context, { ...portal, utilityId }, 'A')).rejects.toMatchObject({ status: 409, code: 'utility-zone-unset' })
  })

  it('names a head-end\'s sources', () => {
    expect(ownSources(portal)).toBeNull()
    expect(ownSources({ ...portal, role: 'head-end' })).toEqual(['p'])
    expect(ownSources({ ...portal, role: 'head-end', sources: ['x'] })).toEqual(['x'])
  })
})

describe('utilities', () => {
  const put = (body: unknown, key = root) => server.call(key, 'PUT', '/v1/utilities/west', body)

  it('are made by an operator of the installation, whose zone freezes with the first read', async () => {
    expect((await put({ zone: 'America/Denver' }, operator)).statusCode).toBe(403)
    const made = await put({ zone: 'America/Denver', name: 'West REC', links: { home: 'https://west.example' }, languages: ['en', 'es'] })
    expect([made.statusCode, made.json()]).toEqual([201, {
      utility: 'west', zone: 'America/Denver', currency: 'USD', name: 'West REC', phone: null, links: { home: 'https://west.example' },
      languages: ['en', 'es'], alertOnEstimates: false, holdsReads: false }])
    expect((await put({ alertOnEstimates: true })).json()).toMatchObject({ alertOnEstimates: true, name: 'West REC' })
    expect((await put({ phone: null })).json()).toMatchObject({ alertOnEstimates: true })
    expect((await put({ alertOnEstimates: 'yes' })).statusCode).toBe(422)
    expect((await put({ zone: 'Mars/Base' })).json()).toMatchObject({ status: 422, code: 'unknown-zone', at: '/zone' })
    expect((await put({ zone: 'America/Boise', name: null })).json()).toMatchObject({ zone: 'America/Boise', name: null })
    await db.pool.query("update utility set holds_reads = true where id = 'west'")
    const frozen = await put({ zone: 'America/Denver' })
    expect(frozen.json()).toMatchObject({ status: 409, code: 'zone-frozen', at: '/zone', help: expect.any(String) as string })
    expect((await put({ zone: 'America/Boise', phone: '555-0100' })).json()).toMatchObject({ phone: '555-0100' })
    await expect(ensureUtility(db.pool, 'west', { zone: 'UTC' })).rejects.toMatchObject({ code: 'zone-frozen' })
  })
})

describe('one record at a time', () => {
  it('answers with the record, or fails with why', async () => {
    const put = (url: string, body: unknown) => server.call(operator, 'PUT', url, body)
    const made = await put('/v1/meters/007', { account: 'A', from: '2024-01-01', serviceKw: 48.5 })
    expect([made.statusCode, made.json()]).toEqual([201, {
      meter: '007', aliases: [], role: 'main', status: 'active', intervalSeconds: null, flows: null, multiplier: 1, serviceKw: 48.5,
      assignments: [{ account: 'A', servicePoint: null, from: '2024-01-01T00:00:00-06:00', to: null }] }])
    expect((await put('/v1/meters/007', { role: 'check' })).statusCode).toBe(200)
    expect((await put('/v1/meters/007', { account: 'B', from: '2023-01-01' })).json()).toMatchObject({ status: 409, code: 'assignment-overlap', at: '/from' })
    expect((await put('/v1/meters/008', { aliases: ['007'] })).json()).toMatchObject({ status: 409, code: 'alias-taken', at: '/aliases' })
    expect((await put('/v1/meters/008', { account: 'Z', from: '2023-01-01' })).json()).toMatchObject({ status: 422, code: 'unknown-account' })
    expect((await put('/v1/meters/008', { meter: '009' })).json()).toMatchObject({ status: 422, code: 'id-mismatch' })
    expect((await put('/v1/meters/008', { colour: 'red' })).json()).toMatchObject({ status: 422, code: 'unknown-member', at: '/colour' })
    expect((await put('/v1/accounts/C', { billingDay: 31 })).json()).toMatchObject({ account: 'C', periodSource: 'billingDay' })
    expect((await put('/v1/accounts/C', { billingDay: 0 })).json()).toMatchObject({ status: 422, at: '/billingDay' })
  })

  it('appends billing periods that do not overlap', async () => {
    const put = (body: unknown) => server.call(operator, 'PUT', '/v1/accounts/A/billing-periods', body)
    const periods = [{ start: '2026-01-03', end: '2026-02-02' }, { start: '2026-02-02', end: '2026-03-04' }]
    expect((await put({ periods })).json()).toEqual({ items: periods, next: null })
    expect((await put(periods)).json()).toEqual({ items: periods, next: null })
    expect((await put([{ start: '2026-03-03', end: '2026-04-03' }])).json()).toMatchObject({ status: 409, code: 'billing-period-overlap' })
    expect((await put([{ start: '2026-04-03', end: '2026-04-03' }])).json()).toMatchObject({ status: 422, code: 'invalid-period' })
    expect((await put([{ start: '2026-02-30', end: '2026-04-03' }])).statusCode).toBe(422)
    expect((await server.call(operator, 'GET', '/v1/accounts/A')).json()).toMatchObject({ periodSource: 'cis' })
  })

  it('pages through lists', async () => {
    const seen: string[] = []
    let cursor = ''
    do {
      const answer = await server.call(operator, 'GET', `/v1/accounts?limit=1${cursor}`)
      const { items, next } = answer.json<{ items: { account: string }[]; next: string | null }>()
      seen.push(...items.map((a) => a.account))
      cursor = next === null ? '' : `&cursor=${next}`
    } while (cursor !== '')
    expect(seen).toEqual([...seen].sort())
    expect(seen).toEqual(expect.arrayContaining(['A', 'B', 'C']))
  })

  it('keeps a source\'s settings, and tells who changed what', async () => {
    const put = (body: unknown) => server.call(operator, 'PUT', '/v1/sources/ami', body)
    expect((await put({ unknownMeters: 'register', zone: 'America/Denver' })).statusCode).toBe(201)
    expect((await put({ zone: null, label: 'end' })).json()).toMatchObject({
      source: 'ami', settings: { unknownMeters: 'register', zone: null, label: 'end', round: false, multiplierApplied: true } })
    expect((await put({ unknownMeters: 'guess' })).json()).toMatchObject({ status: 422, at: '/unknownMeters' })
    expect((await put({ zone: 'Mars/Base' })).json()).toMatchObject({ code: 'unknown-zone' })
    expect((await put({ unit: 'furlong' })).json()).toMatchObject({ code: 'unknown-unit' })
    expect((await put({ clock: 'sundial' })).json()).toMatchObject({ status: 422, at: '/clock' })
    expect((await server.call(operator, 'GET', '/v1/sources/none')).statusCode).toBe(404)
    const { items } = (await server.call(operator, 'GET', '/v1/audit?limit=2')).json<{ items: { action: string; actor: string; subject: string }[] }>()
    expect(items.map((a) => [a.action, a.actor, a.subject])).toEqual([
      ['source.change', 'key:operator of u', 'ami'], ['source.create', 'key:operator of u', 'ami']])
    expect((await put({ clock: 'local-standard', unit: 'ccf', skipRules: ['negative-energy'] })).json()).toMatchObject({
      settings: { clock: 'local-standard', unit: 'ccf', skipRules: ['negative-energy'] } })
  })

  it('lets a source skip any rule that there is, the utility\'s own too, and lists them where there is none', async () => {
    const put = (skipRules: unknown) => server.call(operator, 'PUT', '/v1/sources/lenient', { skipRules })
    const refused = (await put(['spike', 'dynamic:leak'])).json<{ code: string; at: string; help: string }>()
    expect(refused).toMatchObject({ status: 422, code: 'unknown-rule', at: '/skipRules/1' })
    expect(refused.help).toMatch(/negative-energy, gap, sum-check, .*shift-hour/)
    await server.call(operator, 'PUT', '/v1/vee/rules', { dynamic: [{ name: 'leak', statistic: 'min', above: 1, below: null, severity: 'warning' }] })
    expect((await put(['spike', 'dynamic:leak'])).json()).toMatchObject({ settings: { skipRules: ['spike', 'dynamic:leak'] } })
    expect((await put([''])).json()).toMatchObject({ status: 422, code: 'unknown-rule' })
    expect((await put([7])).json()).toMatchObject({ status: 422, code: 'invalid-request' })
    expect((await put(null)).json()).toMatchObject({ settings: { skipRules: [] } })
    expect((await server.call(await server.key('u', 'viewer'), 'PUT', '/v1/sources/lenient', { skipRules: ['spike'] })).statusCode).toBe(403)
  })

  it('tells of new meters, so that reads that waited for them settle', async () => {
    server.registered.length = 0
    await server.call(operator, 'PUT', '/v1/meters', [{ meter: 'fresh' }])
    await server.call(operator, 'PUT', '/v1/meters', [{ meter: 'fresh', status: 'removed' }])
    await server.call(operator, 'PUT', '/v1/meters/fresh', { aliases: ['other-name'] })
    expect(server.registered).toEqual([portal.utilityId, portal.utilityId])
  })
})

describe('quarantine', () => {
  it('lists what waits, by reason, source and meter', async () => {
    await db.pool.query(
      `insert into quarantine (utility_id, source_id, delivery_no, reason, message, meter, reads, version, record, raw, format)
       select $1, source_id, 1, r, 'why', m, 4, 1, rec, raw, 'json' from source,
              (values ('unknown-meter', 'X1', '{"meter":"X1"}', null), ('off-grid', 'X2', null, 'X2;1'::bytea)) as v(r, m, rec, raw)
        where utility_id = $1 and name = 'ami'`, [portal.utilityId])
    const list = async (query: string) => (await server.call(operator, 'GET', `/v1/quarantine${query}`)).json<{ items: Record<string, unknown>[]; next: string | null }>()
    expect((await list('?source=ami')).items).toMatchObject([
      { reason: 'off-grid', meter: 'X2', record: null, raw: 'X2;1' }, { reason: 'unknown-meter', record: { meter: 'X1' }, raw: null, source: 'ami' }])
    const first = await list('?limit=1')
    expect((await list(`?limit=1&cursor=${first.next}`)).items).toMatchObject([{ meter: 'X1' }])
    expect((await list('?reason=off-grid&meter=X1')).items).toEqual([])
    expect((await server.call(operator, 'POST', '/v1/quarantine/replay', {})).json()).toMatchObject({ status: 503, code: 'ingest-elsewhere' })
  })
})
