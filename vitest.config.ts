import { defineConfig } from 'vitest/config'

// One database server serves the whole run (test/global-setup.ts); each test file clones a migrated template.
export default defineConfig({
  test: {
    include: ['{cli,ingest,engine,api,bench,fixtures,test}/**/*.test.ts', 'meterline.test.ts'],
    exclude: ['**/*.samples.test.ts', 'node_modules/**', 'dist/**'],
    globalSetup: ['test/global-setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // One more than the cores of the machine that checks: tests wait for processes and servers much of the time.
    maxWorkers: 3,
  },
})
