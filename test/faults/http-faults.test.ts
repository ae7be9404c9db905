import { expect, test } from 'vitest'
import { httpFaults } from './http-faults.js'

// More of it: node dist/bench/http-faults.js --seed 1 --runs 20
const SEED = Number(process.env.FAULT_SEED ?? 20_261_122)

test('50 clients that retry while program, database and network suffer: everything acknowledged is there once', async () => {
  const verdict = await httpFaults({
    seed: SEED, clients: 50, faults: 3, kinds: ['kill-database', 'silent-then-reset', 'silent-then-healed', 'silent-one-way', 'lost-commit', 'freeze-program'] })
  expect(verdict.acknowledged).toBeGreaterThan(200)
  expect(verdict.unavailable + verdict.broken, JSON.stringify(verdict)).toBeGreaterThan(0)
}, 240_000)
