/**
 * The nonce detector over NONCE_ANSWERS answers (5 million when nothing is said), for `npm run
 * test:long`. A tenth of them come while servers are terminated.
 */
import { expect, test } from 'vitest'
import { detectNonces, NONCE_POOLS } from '../support/nonce.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const ANSWERS = Number(process.env['NONCE_ANSWERS'] ?? 5_000_000)
/** Two cores give some ten thousand answers a second; this is the deadline. */
const MS_PER_ANSWER = 0.2

const shared = useCluster({ replicas: 2 })
const front = useSteer(shared, { pgbouncer: NONCE_POOLS })

test(
  `${ANSWERS} answers reach who asked`,
  async () => {
    const { steer } = front
    const workers = steer.workers
    const calm = {
      steer,
      clients: 64,
      answers: Math.ceil(ANSWERS * 0.9),
      mayBreak: false,
      isDense: true,
    }
    expect((await detectNonces(calm)).wrong).toEqual([])
    const progress = { right: 0 }
    const answers = Math.ceil(ANSWERS / 10)
    const running = detectNonces({
      steer,
      clients: 64,
      answers,
      mayBreak: true,
      isDense: true,
      progress,
    })
    // A wrong answer stops the clients: what it was is said then, not after a deadline.
    let isOver = false
    const end = running.finally(() => {
      isOver = true
    })
    const turns = 200
    for (let turn = 1; turn <= turns; turn += 1) {
      const reached = (turn * answers) / (turns + 2)
      await waitFor('more answers came', () => isOver || progress.right >= reached, {
        withinMs: 120_000,
      })
      if (isOver) break
      const member = shared.cluster.members[turn % 3]
      await member?.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE usename = 'demo' ORDER BY random() LIMIT 2`,
      )
    }
    expect((await end).wrong).toEqual([])
    expect(steer.workers).toEqual(workers)
  },
  60_000 + ANSWERS * MS_PER_ANSWER,
)
