/** Writes that wait for a primary: who gives up takes its statement along. */
import { afterEach, expect, test } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { cancel } from '../support/nonce.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, { cluster: { probe_timeout_ms: 300 } })

async function held(): Promise<[string | undefined, string | undefined][]> {
  const rows = await front.steer.console('SHOW WAITS')
  return rows.map(({ reason, clients }) => [reason, String(clients)])
}

async function freezePrimary(): Promise<void> {
  shared.cluster.member('pg1').freeze('SIGSTOP')
  await waitFor('no primary', async () => {
    const response = await fetch(`http://127.0.0.1:${front.steer.httpPort}/primary`)
    return response.status === 503
  })
}

afterEach(() => shared.cluster.member('pg1').freeze('SIGCONT'))

test('a client that goes, or cancels, while its write is held leaves no write behind', async () => {
  const [gone, cancels, stays] = [
    await front.steer.wire(),
    await front.steer.wire(),
    await front.steer.wire(),
  ]
  await waitFor('a table', async () => {
    const { sqlstate } = await stays.query('CREATE TABLE IF NOT EXISTS held (who text)')
    return sqlstate === undefined
  })
  await freezePrimary()
  gone.send(frontend.query("INSERT INTO held VALUES ('gone')"))
  cancels.send(frontend.query("INSERT INTO held VALUES ('cancels')"))
  stays.send(frontend.query("INSERT INTO held VALUES ('stays')"))
  await waitFor('three held', async () => JSON.stringify(await held()) === '[["primary","3"]]')
  await gone.close()
  await cancel(front.steer.port, cancels)
  expect((await cancels.ready()).sqlstate).toBe('57014')
  await waitFor('one held', async () => JSON.stringify(await held()) === '[["primary","1"]]')
  shared.cluster.member('pg1').freeze('SIGCONT')
  expect((await stays.ready()).tags).toEqual(['INSERT 0 1'])
  const { rows } = await stays.query('/* pgsteer: primary */ SELECT who FROM held')
  expect(rows).toEqual([['stays']])
  expect((await cancels.query('SELECT 1')).rows).toEqual([['1']])
})

test('many log-ins at once while there is no primary are served, and so are their reads', async () => {
  await freezePrimary()
  const clients = await Promise.all(Array.from({ length: 30 }, () => front.steer.wire()))
  const answers = await Promise.all(
    clients.map((client) => client.query('SELECT 1 FROM pg_class LIMIT 1')),
  )
  expect(answers.map(({ rows }) => rows)).toEqual(answers.map(() => [['1']]))
})
