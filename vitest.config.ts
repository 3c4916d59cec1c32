import { defineConfig } from 'vitest/config'

/** Of tests that take seconds at most: a machine with other work may need many times as long. */
const LOADED_MS = 30_000
/** Suites with servers of their own mostly wait for them: two files at once, whatever the machine has. */
const SERVERS_WORKERS = 2

export default defineConfig({
  test: {
    coverage: { provider: 'v8', include: ['src/**/*.ts'], reporter: ['text-summary', 'lcov'] },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/*.test.ts', 'test/unit/**/*.test.ts'],
          testTimeout: LOADED_MS,
        },
      },
      {
        test: {
          name: 'simulation',
          include: ['test/simulation/**/*.test.ts'],
          testTimeout: LOADED_MS,
        },
      },
      {
        test: { name: 'protocol', include: ['test/protocol/**/*.test.ts'], testTimeout: LOADED_MS },
      },
      { test: { name: 'deploy', include: ['test/deploy/**/*.test.ts'], testTimeout: LOADED_MS } },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          pool: 'forks',
          maxWorkers: SERVERS_WORKERS,
        },
      },
      {
        test: {
          name: 'failover',
          include: ['test/failover/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 180_000,
          pool: 'forks',
          maxWorkers: SERVERS_WORKERS,
        },
      },
      {
        test: {
          name: 'image',
          include: ['test/image/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          pool: 'forks',
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'chaos',
          include: ['test/chaos/**/*.test.ts'],
          testTimeout: 240_000,
          hookTimeout: 180_000,
          pool: 'forks',
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'swarm',
          include: ['test/swarm/**/*.test.ts'],
          // Above the sum of what one test waits for, so that each wait ends by itself and says for what.
          testTimeout: 3_600_000,
          hookTimeout: 900_000,
          pool: 'forks',
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'long',
          include: ['test/long/**/*.test.ts'],
          testTimeout: 1_200_000,
          hookTimeout: 180_000,
          pool: 'forks',
          fileParallelism: false,
        },
      },
    ],
  },
})
