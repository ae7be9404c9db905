import { parseArgs } from 'node:util'
import { brokerMissing } from '../fixtures/kafka/broker.js'
import { FAULTS, kafkaFaults, type Fault } from '../test/kafka/faults.js'
import { say } from './report.js'

const USAGE = `node dist/bench/kafka-faults.js [--seed N] [--runs N] [--reads N] [--faults N] [--kinds a,b]
A topic of a real Kafka broker is filled while the three processes that settle it, the broker and the database suffer; then
the stored blocks must equal the model's and every message must have been settled once. Each run has the next seed; the same
seed draws the same faults. Without --faults each kind comes once, in the order given. Kinds: ${FAULTS.join(', ')}
`

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' }, runs: { type: 'string', default: '1' }, reads: { type: 'string', default: '500000' },
    faults: { type: 'string' }, kinds: { type: 'string', default: FAULTS.join(',') }, help: { type: 'boolean', short: 'h', default: false },
  },
})
const [seed, runs, reads] = [values.seed, values.runs, values.reads].map(Number)
const faults = values.faults === undefined ? undefined : Number(values.faults)
const kinds = values.kinds.split(',').filter((kind): kind is Fault => (FAULTS as readonly string[]).includes(kind))
if (values.help || ![seed, runs, reads, faults ?? 0].every(Number.isInteger) || kinds.length === 0) {
  process.stdout.write(USAGE)
  process.exit(values.help ? 0 : 1)
}
const missing = await brokerMissing()
if (missing !== null) {
  process.stdout.write(`not run: ${missing}\n`)
  process.exit(1)
}

let failed = 0
for (let run = 0; run < runs; run++) {
  const name = `seed ${seed + run}`
  try {
    const v = await kafkaFaults({ seed: seed + run, reads, faults, kinds, say: (text) => say(`${name}: ${text}`) })
    process.stdout.write(`${name}: every read is there once. ${v.reads} reads in ${v.messages} messages, ${v.standing} stand, ${v.deliveries} receipts, ` +
      `${v.alerts} alerts, each once; ${v.fenced} batches refused because another process had the partition, ${v.lateCommits} of them commits of a ` +
      `process that had been frozen with a transaction open; frozen transactions kept their partitions ${v.heldS.map((s) => s.toFixed(1)).join(', ') || 'none'} s; ` +
      `no lag ${v.drainS.toFixed(1)} s after the last message; ${Math.round(v.seconds)} s in all; ${v.faults.join(', ')}\n`)
  } catch (err) {
    failed++
    process.stdout.write(`${name}: FAILED: ${err instanceof Error ? err.stack : String(err)}\n`)
  }
}
process.stdout.write(`${runs - failed} of ${runs} runs hold\n`)
process.exitCode = failed > 0 ? 1 : 0
