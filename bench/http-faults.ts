import { parseArgs } from 'node:util'
import { FAULTS, httpFaults, type Fault } from '../test/faults/http-faults.js'
import { say } from './report.js'

const USAGE = `node dist/bench/http-faults.js [--seed N] [--runs N] [--clients N] [--faults N] [--kinds a,b]
Clients push over HTTP and retry while program, database and the network between them suffer; then everything acknowledged
must be there once. Each run has the next seed; the same seed draws the same faults. Kinds: ${FAULTS.join(', ')}
`

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' }, runs: { type: 'string', default: '1' }, clients: { type: 'string', default: '50' },
    faults: { type: 'string', default: '10' }, kinds: { type: 'string', default: FAULTS.join(',') }, help: { type: 'boolean', short: 'h', default: false },
  },
})
const [seed, runs, clients, faults] = [values.seed, values.runs, values.clients, values.faults].map(Number)
const kinds = values.kinds.split(',').filter((kind): kind is Fault => (FAULTS as readonly string[]).includes(kind))
if (values.help || ![seed, runs, clients, faults].every(Number.isInteger) || kinds.length === 0) {
  process.stdout.write(USAGE)
  process.exit(values.help ? 0 : 1)
}

let failed = 0
for (let run = 0; run < runs; run++) {
  const began = Date.now()
  try {
    const verdict = await httpFaults({
      seed: seed + run, clients, faults, kinds,
      onFault: (fault, fleet) => say(`seed ${seed + run}: ${fault} after ${fleet.acknowledged.length} acknowledged`) })
    process.stdout.write(`seed ${seed + run}: everything acknowledged is there once. ${verdict.acknowledged} pushes acknowledged, ` +
      `${verdict.unavailable} answered 503, ${verdict.broken} cut off, in ${Math.round((Date.now() - began) / 1000)} s; ${verdict.faults.join(', ')}\n`)
  } catch (err) {
    failed++
    process.stdout.write(`seed ${seed + run}: FAILED: ${err instanceof Error ? err.stack : String(err)}\n`)
  }
}
process.stdout.write(`${runs - failed} of ${runs} runs hold\n`)
process.exitCode = failed > 0 ? 1 : 0
