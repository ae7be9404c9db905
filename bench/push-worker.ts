import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import type { Receipt } from '../engine/receipt.js'
import { BodyWriter, createFleet, dayBlocks, meterId, type DayBlocks, type Fleet } from '../fixtures/simulator.js'
import type { PrepareTask, Prepared, PushTask, PushWorkerData, Sent } from './push-task.js'

/** The head-end of a benchmark: a thread of its own that makes bodies first and pushes them when told. */

const { url, key } = workerData as PushWorkerData
let fleet: Fleet | undefined
let fleetText = ''
let bodies: Buffer[] = []

function prepare(task: PrepareTask): Prepared {
  const text = JSON.stringify(task.fleet)
  if (fleet === undefined || text !== fleetText) {
    fleet = createFleet(task.fleet)
    fleetText = text
  }
  bodies = []
  let reads = 0
  const [from, to] = task.meters ?? [0, fleet.meters]
  const writer = new BodyWriter('json', fleet.zone)
  let pending = 0
  for (const day of task.days) {
    for (let meter = from; meter < to; meter += task.metersPerBody) {
      const blocks = dayBlocks(fleet, day, meter, Math.min(to, meter + task.metersPerBody))
      const { count, bytes } = write(writer, blocks, task.fromSlot ?? 0, task.slots ?? blocks.grid.slots)
      reads += count
      pending += bytes
      if (task.bodyBytes !== undefined && pending < task.bodyBytes) continue
      bodies.push(writer.take())
      pending = 0
    }
  }
  if (pending > 0) bodies.push(writer.take())
  return { bodies: bodies.length, reads, bytes: bodies.reduce((sum, b) => sum + b.length, 0) }
}

function write(writer: BodyWriter, blocks: DayBlocks, fromSlot: number, slots: number): { count: number; bytes: number } {
  const { grid } = blocks
  let count = 0
  for (let b = 0; b < blocks.count; b++) {
    const n = Math.min(slots, grid.slots - fromSlot)
    writer.add({
      meter: meterId(blocks.meters[b]), flow: blocks.flows[b] === 1 ? 'delivered' : 'received',
      startS: grid.firstS + fromSlot * grid.intervalS, intervalS: grid.intervalS, values: blocks.values,
      from: b * grid.slots + fromSlot, count: n, capturedS: 0,
    }, 'offset')
    count += n
  }
  // Six bytes a value and some 120 beside them: near enough to cut bodies by.
  return { count, bytes: count * 6 + blocks.count * 120 }
}

async function send(connections: number, keep: boolean): Promise<Sent> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const sent: Sent = {
    seconds: 0, cpuSeconds: 0, bodies: bodies.length, bytes: 0, latencies: [], received: 0, stored: 0, duplicate: 0, corrected: 0, outranked: 0,
    quarantined: 0, rejected: 0, refused: 0,
  }
  let next = 0
  const pushAll = async (): Promise<void> => {
    for (let i = next++; i < bodies.length; i = next++) {
      const began = performance.now()
      const receipt = await push(agent, bodies[i], sent)
      sent.latencies.push(performance.now() - began)
      sent.bytes += bodies[i].length
      for (const k of ['received', 'stored', 'duplicate', 'corrected', 'outranked', 'quarantined', 'rejected'] as const) sent[k] += receipt[k]
    }
  }
  const began = performance.now()
  const cpu = process.cpuUsage()
  await Promise.all(Array.from({ length: connections }, pushAll))
  sent.seconds = (performance.now() - began) / 1000
  const used = process.cpuUsage(cpu)
  sent.cpuSeconds = (used.user + used.system) / 1e6
  agent.destroy()
  if (!keep) bodies = []
  return sent
}

async function push(agent: Agent, body: Buffer, sent: Sent): Promise<Receipt> {
  for (;;) {
    const { status, retryAfter, text } = await post(agent, body)
    if (status === 200) return JSON.parse(text) as Receipt
    if (status !== 429 && status !== 503) throw new Error(`${status}: ${text.slice(0, 500)}`)
    sent.refused++
    await sleep(Math.max(0.05, retryAfter) * 1000)
  }
}

function post(agent: Agent, body: Buffer): Promise<{ status: number; retryAfter: number; text: string }> {
  return new Promise((resolve, reject) => {
    const req = request(`${url}/v1/reads`, {
      method: 'POST', agent,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'content-length': body.length },
    }, (res) => {
      let text = ''
      res.setEncoding('utf8')
      res.on('data', (chunk: string) => { text += chunk })
      res.on('end', () => resolve({ status: res.statusCode ?? 0, retryAfter: Number(res.headers['retry-after'] ?? 0), text }))
      res.on('error', reject)
    })
    req.on('error', reject)
    req.end(body)
  })
}

parentPort!.on('message', (task: PushTask) => {
  const answer = task.kind === 'prepare' ? Promise.resolve().then(() => prepare(task)) : send(task.connections, task.keep === true)
  answer.then((value) => parentPort!.postMessage({ value }), (err: unknown) => parentPort!.postMessage({ error: String(err) }))
})
