/** A real PgBouncer in front of pgsteer: what it pools and proves, pgsteer pools and proves again. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { program } from '../support/debian.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { Bouncer, pgbench, transactionsOf } from './beside-bouncer.ts'

const shared = useCluster({ replicas: 2 })
const front = useSteer(shared, { pgbouncer: { default_pool_size: 10 } })
let transaction: Bouncer
let session: Bouncer

beforeAll(async () => {
  const { port } = front.steer
  transaction = await Bouncer.start({ port, poolMode: 'transaction' })
  session = await Bouncer.start({ port, poolMode: 'session' })
  await pgbench(transaction.port, '-i', '-s', '5', '-q')
  await shared.cluster.caughtUp()
})
afterAll(async () => {
  await transaction?.stop()
  await session?.stop()
})

const run = promisify(execFile)

describe.each([
  ['reads', ['-S', '-n', '-c', '8', '-t', '100'], 800],
  ['TPC-B', ['-n', '-c', '8', '-t', '40'], 320],
] as const)('pgbench %s', (_, flags, transactions) => {
  // PgBouncer 1.18 knows named statements in session mode only.
  test.each([
    ['simple', () => transaction],
    ['extended', () => transaction],
    ['prepared', () => session],
    ['simple', () => session],
  ] as const)('-M %s has no failures', async (mode, bouncer) => {
    const output = await pgbench(bouncer().port, ...flags, '-M', mode)
    expect(transactionsOf(output)).toBe(transactions)
  })
})

test('reads land on replicas and writes on the primary, whoever pools in front', async () => {
  const client = await transaction.connect({ user: 'demo', database: 'demo' })
  try {
    const read = await client.query<{ port: number }>('select inet_server_port() as port')
    const write = await client.query<{ port: number }>(
      'update pgbench_branches set bbalance = 0 where bid = 1 returning inet_server_port() as port',
    )
    const { port } = shared.cluster.primary
    expect(write.rows[0]?.port).toBe(port)
    expect(shared.cluster.members.map((member) => member.port)).toContain(read.rows[0]?.port)
    expect(read.rows[0]?.port).not.toBe(port)
  } finally {
    await client.end()
  }
})

test('a wrong password ends at PgBouncer, and an unknown user too', async () => {
  const { file, args, env } = program('psql')
  const psql = (user: string, password: string) =>
    run(file, [...args, '-XAtc', 'select 1', '-U', user, 'demo'], {
      env: {
        ...process.env,
        ...env,
        PGHOST: '127.0.0.1',
        PGPORT: String(transaction.port),
        PGPASSWORD: password,
      },
    })
  await expect(psql('demo', 'wrong')).rejects.toThrow('authentication failed')
  await expect(psql('nobody', 'nobody')).rejects.toThrow('authentication failed')
  expect((await psql('demo', 'demo')).stdout).toBe('1\n')
})
