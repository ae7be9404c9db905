import { defineConfig } from 'vitest/config'

// Known answers from ../shared/samples, read in place; kept apart so that `npm test` passes in a clone with nothing beside it.
export default defineConfig({
  test: {
    include: ['{ingest,engine,api,test}/**/*.samples.test.ts'],
    globalSetup: ['test/global-setup.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: 'forks',
    maxWorkers: 2,
  },
})
