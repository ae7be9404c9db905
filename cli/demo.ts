import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createKey } from '../engine/access.js'
import { loadSettings, type Settings } from '../engine/config.js'
import type { Receipt } from '../engine/receipt.js'
import { makeOpenFolder } from '../engine/store/cluster.js'
import { isAlive, ownMark, type ProcessMark } from '../engine/store/folder-lock.js'
import { findUtility } from '../engine/utilities.js'
import { demoCoop, type DemoPush } from '../fixtures/demo-coop.js'
import { Client } from './client.js'
import { DEFAULT_UTILITY, openLog } from './runtime.js'
import { startEngine, untilStopped, type Engine } from './serve.js'

/**
 * `npm run demo`: a small co-operative on a database of its own. Its reads go through the real HTTP door; a faulty read
 * raises an alert, the e-mail is delivered (captured, as there is no mail server), the read is put right and the alert
 * is taken back.
 */
export async function demo(exit: boolean): Promise<void> {
  const base = loadSettings()
  const overrides: Partial<Settings> = {
    meterlineDir: claimFolder(join(base.meterlineDir, 'demo')), utilityZone: 'America/Chicago', logLevel: 'warn', databaseUrl: null, smtpUrl: null, smsUrl: null,
  }
  const engine = await startOnFreePort(loadSettings(undefined, overrides))
  try {
    await play(engine)
  } catch (err) {
    await engine.close()
    throw err
  }
  if (exit) {
    await engine.close()
    return
  }
  say('\nThe engine keeps serving. Ctrl-C stops it.')
  untilStopped({ ...base, ...overrides }, engine)
}

/** The demonstration's folder, or one beside it while another demonstration that lives has it: two would correct each other's reads. */
function claimFolder(folder: string): string {
  for (let n = 1; ; n++) {
    const dir = n === 1 ? folder : `${folder}-${n}`
    const mark = join(dir, 'demo.json')
    if (process.getuid?.() === 0) makeOpenFolder(dir)
    else mkdirSync(dir, { recursive: true, mode: 0o700 })
    if (isHeld(mark)) continue
    writeFileSync(mark, JSON.stringify(ownMark()))
    return dir
  }
}

function isHeld(mark: string): boolean {
  try {
    return isAlive(JSON.parse(readFileSync(mark, 'utf8')) as ProcessMark)
  } catch {
    return false
  }
}

async function startOnFreePort(settings: Settings): Promise<Engine> {
  const roles = new Set(['ingest', 'api', 'notify'] as const)
  const log = openLog(settings)
  try {
    return await startEngine(settings, roles, log)
  } catch (err) {
    if (!(err instanceof Error) || !err.message.includes('is taken by another program')) throw err
    say(`Port ${settings.port} is taken: a free one is used.`)
    return startEngine({ ...settings, port: 0 }, roles, log)
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

interface AlertItem { threshold: string; kind: string; limit: number; value: number; unit: string; crossedAt: string | null; state: string }
interface MessageItem { purpose: string; state: string; subject: string | null; text: string | null }
interface Items<T> { items: T[] }

async function play(engine: Engine): Promise<void> {
  const utility = await findUtility(engine.database.pool, DEFAULT_UTILITY)
  const { key } = await createKey(engine.database.pool, {
    utilityId: utility!.utilityId, role: 'operator', name: `demo-${Date.now()}`, installation: true, actor: 'demo' })
  const client = new Client(engine.url, key)
  const coop = demoCoop({ nowS: Math.floor(Date.now() / 1000), faultyDay: 'today' })
  await client.json('PUT', `/v1/utilities/${DEFAULT_UTILITY}`, { name: coop.utility.name })
  await client.json('PUT', '/v1/accounts', coop.accounts)
  await client.json('PUT', '/v1/meters', coop.meters)
  say(`${coop.utility.name}: ${coop.accounts.length} accounts, ${coop.meters.length} meters registered.`)

  const { account } = coop.alert
  await verifiedContact(client, account)
  // A run that was killed has left its thresholds standing.
  await deleteThresholds(client, account)
  const thresholds = new Set<string>()
  for (const t of [coop.alert.threshold, coop.alert.periodThreshold]) {
    thresholds.add((await client.json<{ id: string }>('POST', `/v1/accounts/${account}/thresholds`, t)).id)
  }
  say(`Account ${account} asked to be told past ${coop.alert.threshold.limit} kWh in a day and ${coop.alert.periodThreshold.limit} kWh in its billing period.`)

  const run = `${Date.now()}-`
  let raised = 0
  let correction: Pick<DemoPush, 'body' | 'contentType' | 'key'> = coop.correction
  /** The faulty read with another value, stated now: a later statement stands over an earlier one. */
  const restated = (kwh: number): Buffer => Buffer.from(JSON.stringify([{
    meter: coop.alert.meter, start: coop.alert.at, intervalSeconds: 900, values: [kwh], capturedAt: new Date().toISOString() }]))
  for (const push of coop.pushes) {
    const receipt = await pushBody(client, push.body, push.contentType, run + push.key)
    raised += receipt.alerts.raised
    say(`Pushed ${push.title}: ${receipt.received} reads, ${receipt.stored} stored, ${receipt.duplicate} duplicate, ${receipt.corrected} corrected.`)
  }
  if (raised === 0) {
    // An earlier run on the same folder put the read right: the head-end states the wrong value anew, and later than that.
    raised = (await pushBody(client, restated(coop.alert.wrongKwh), 'application/json', `${run}again`)).alerts.raised
    correction = { body: restated(coop.alert.rightKwh), contentType: 'application/json', key: coop.correction.key }
  }
  if (raised === 0) throw new Error('no alert was raised: the demonstration is broken')
  say(`\nAlert raised: meter ${coop.alert.meter} read ${coop.alert.wrongKwh} kWh at ${coop.alert.at}.`)
  for (const a of await alertsOf(client, account, 'raised', thresholds)) say(`  ${a.kind}: ${a.value} ${a.unit} passed ${a.limit} ${a.unit}${a.crossedAt === null ? '' : ` at ${a.crossedAt}`}`)
  const told = await messageOf(client, 'alert')
  say(`  e-mail (${told.state}): ${told.subject ?? ''}\n${indent(told.text)}`)

  const corrected = await pushBody(client, correction.body, correction.contentType, run + correction.key)
  if (corrected.alerts.retracted === 0) throw new Error('the correction took no alert back: the demonstration is broken')
  say(`\nThe head-end corrected the read to ${coop.alert.rightKwh} kWh: ${corrected.corrected} corrected, ${corrected.alerts.retracted} alerts taken back.`)
  for (const a of await alertsOf(client, account, 'retracted', thresholds)) say(`  ${a.kind}: ${a.state}, ${a.value} ${a.unit} against ${a.limit} ${a.unit}`)
  const back = await messageOf(client, 'correction')
  say(`  e-mail (${back.state}): ${back.subject ?? ''}\n${indent(back.text)}`)
  await deleteThresholds(client, account)
  client.close()

  const at = new Date(Math.floor(Date.now() / 900_000) * 900_000 - 900_000).toISOString()
  say(`\nOpen     ${engine.url}/docs (every route), ${engine.url}/metrics`)
  say(`Usage    curl -H 'Authorization: Bearer ${key}' '${engine.url}/v1/accounts/${account}/usage?resolution=day'`)
  say(`Your own read:\ncurl -X POST '${engine.url}/v1/reads' -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' \\\n`
    + `  -d '[{"meter":"${coop.meters[0].meter}","start":"${at}","intervalSeconds":900,"values":[0.512]}]'`)
}

function pushBody(client: Client, body: Buffer, contentType: string, key: string): Promise<Receipt> {
  return client.send<Receipt>('POST', '/v1/reads', body, { 'content-type': contentType, 'idempotency-key': key })
}

/** Adds an e-mail contact and activates it with the code that was sent; one that is there from an earlier run is kept. */
async function verifiedContact(client: Client, account: string): Promise<void> {
  const known = await client.json<Items<{ state: string }>>('GET', `/v1/accounts/${account}/contacts`)
  if (known.items.some((c) => c.state === 'active')) return
  const contact = await client.json<{ id: string }>('POST', `/v1/accounts/${account}/contacts`, {
    channel: 'email', address: 'member@prairie-creek.example', label: 'home',
    consent: { categories: ['usage'], text: 'Tell me about my usage.', via: 'demo' },
  })
  const code = /\b\d{6}\b/.exec((await messageOf(client, 'code')).text ?? '')?.[0]
  await client.json('POST', `/v1/accounts/${account}/contacts/${contact.id}/verify`, { code })
  say(`Account ${account} added an e-mail address and activated it with the code ${code}.`)
}

async function deleteThresholds(client: Client, account: string): Promise<void> {
  const { items } = await client.json<Items<{ id: string }>>('GET', `/v1/accounts/${account}/thresholds`)
  for (const { id } of items) await client.json('DELETE', `/v1/accounts/${account}/thresholds/${id}`)
}

/** Alerts of these thresholds: those of earlier runs stay in the list. */
async function alertsOf(client: Client, account: string, state: string, thresholds: ReadonlySet<string>): Promise<AlertItem[]> {
  const { items } = await client.json<Items<AlertItem>>('GET', `/v1/accounts/${account}/alerts`)
  return items.filter((a) => a.state === state && thresholds.has(a.threshold))
}

/** The newest message of that purpose, once the outbox has dealt with it. */
async function messageOf(client: Client, purpose: string): Promise<MessageItem> {
  for (let n = 0; n < 100; n++) {
    const { items } = await client.json<Items<MessageItem>>('GET', '/v1/messages?limit=20')
    const found = items.find((m) => m.purpose === purpose)
    if (found !== undefined && found.state !== 'pending' && found.state !== 'sending') return found
    await sleep(50)
  }
  throw new Error(`no message of purpose ${purpose} was delivered within five seconds`)
}

function indent(text: string | null): string {
  return (text ?? '').trim().split('\n').map((line) => `    ${line}`).join('\n')
}
