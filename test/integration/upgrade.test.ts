/** Another version is installed in place: RELOAD replaces the workers by it, or everything stays as it is. */
import type { Client } from 'pg'
import { afterAll, expect, test, vi } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { Program } from '../support/program.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

/** Processes start, on a machine that has much to do. */
const LONG = { withinMs: 90_000 }
vi.setConfig({ testTimeout: 240_000 })

const shared = useCluster({ replicas: 0 })
const program = new Program()
const front = useSteer(shared, { program: program.directory, pgsteer: { workers: 2 } })

afterAll(() => program.remove())

async function versions(): Promise<(string | undefined)[]> {
  return (await front.steer.console('SHOW WORKERS')).map(({ version }) => version)
}

/** An open transaction on every worker. */
async function openTransactions(): Promise<Client[]> {
  return await Promise.all(
    Array.from({ length: 8 }, async () => {
      const client = await front.steer.connect()
      await client.query('BEGIN')
      await client.query('SELECT txid_current()')
      return client
    }),
  )
}

test('a version that does not start replaces nobody, and RELOAD says so', async () => {
  const { steer } = front
  const before = steer.workers
  const inside = await openTransactions()
  program.install('0.1.101')
  program.replace('worker.ts', "throw new Error('a broken version')")
  const failure: unknown = await steer.console('RELOAD').then(
    () => null,
    (error: unknown) => error,
  )
  expect(failure).toMatchObject({
    message: 'the workers are not replaced, see logs for additional details',
    detail: expect.stringMatching(/worker \d stays.*exit code 1/),
  })
  expect(steer.log).toContain('a broken version')
  expect(steer.log).toMatch(/not all workers are replaced/)
  expect(steer.workers).toEqual(before)
  for (const client of inside) {
    expect((await client.query('COMMIT')).command).toBe('COMMIT')
    await client.end()
  }
})

test('one that starts replaces all, and then the control process; open transactions commit', async () => {
  const { steer } = front
  const before = steer.workers
  program.replace('worker.ts')
  const inside = await openTransactions()
  steer.signal('SIGHUP')
  for (const client of inside) {
    await waitFor('one that leaves', () => steer.log.includes('"leaving"'), LONG)
    expect((await client.query('COMMIT')).command).toBe('COMMIT')
    await client.end()
  }
  await waitFor('only successors', () => !steer.workers.some((pid) => before.includes(pid)), LONG)
  await waitFor(
    'a control process of the new version',
    async () => {
      const rows = await steer.console('SHOW VERSION')
      return rows[0]?.['version']?.includes('0.1.101') === true
    },
    LONG,
  )
  expect(await versions()).toEqual(['0.1.101', '0.1.101'])
})

test('one of another minor version needs a restart, which RELOAD says', async () => {
  const { steer } = front
  const before = steer.workers
  program.install('0.2.0')
  const client = await steer.connect({ user: 'postgres', database: 'pgbouncer' })
  const notices: (string | undefined)[] = []
  client.on('notice', ({ message }) => notices.push(message))
  await client.query('RELOAD')
  await client.end()
  expect(notices).toContain('version 0.2.0 is installed and 0.1.0 runs: that needs a restart')
  await expect(steer.console('RESTART WORKERS')).rejects.toThrow('the workers are not replaced')
  expect(steer.workers).toEqual(before)
})
