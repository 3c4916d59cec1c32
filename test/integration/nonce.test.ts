/** Answers never reach the wrong client: 100,000 of them, through a small pool, while things break. */
import { expect, test } from 'vitest'
import { detectNonces, NONCE_POOLS } from '../support/nonce.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const shared = useCluster({ replicas: 2 })
const front = useSteer(shared, { pgbouncer: NONCE_POOLS })

/** Ends a random server process of ours on a member, as an administrator does. */
async function terminateOne(member: string): Promise<void> {
  await shared.cluster.member(member).query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE usename = 'demo' ORDER BY random() LIMIT 1`,
  )
}

test('80,000 answers of 64 clients through 6 servers per member, with errors, cancels and disconnects', async () => {
  const { steer } = front
  const workers = steer.workers
  const result = await detectNonces({ steer, clients: 64, answers: 80_000, mayBreak: false })
  expect(result.wrong).toEqual([])
  expect(result.right).toBeGreaterThanOrEqual(80_000)
  expect(result.errors).toBeGreaterThan(100)
  expect(result.cancelled).toBeGreaterThan(0)
  expect(result.disconnects).toBeGreaterThan(0)
  expect(steer.workers).toEqual(workers)
}, 180_000)

test('20,000 more while servers are terminated and a replica is killed', async () => {
  const { steer } = front
  const workers = steer.workers
  const progress = { right: 0 }
  const answers = 20_000
  let isOver = false
  const running = detectNonces({ steer, clients: 64, answers, mayBreak: true, progress }).finally(
    () => {
      isOver = true
    },
  )
  for (let turn = 1; turn <= 30; turn += 1) {
    const wanted = (turn * answers) / 32
    await waitFor('more answers came', () => isOver || progress.right >= wanted, {
      withinMs: 120_000,
    })
    await terminateOne('pg1')
    await terminateOne('pg2')
    if (turn === 10) await shared.cluster.kill('pg3')
    if (turn === 20) await shared.cluster.member('pg3').start()
  }
  const result = await running
  expect(result.wrong).toEqual([])
  expect(result.right).toBeGreaterThanOrEqual(answers)
  expect(steer.workers).toEqual(workers)
}, 180_000)
