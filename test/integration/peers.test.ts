/** Two instances with [peers] in front of one cluster: a cancel request finds its query through either. */

import { once } from 'node:events'
import { connect } from 'node:net'
import { expect, test } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { type Steer, useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const shared = useCluster({ replicas: 1 })
const one = useSteer(shared, { pgbouncer: { peer_id: 1 }, pgsteer: { workers: 2 } })
const other = useSteer(shared, { pgbouncer: { peer_id: 2 } })

function introduce(steer: Steer, id: number, peers: string): Promise<unknown> {
  steer.rewrite({
    databases: `* =\n[peers]\n${peers}`,
    pgbouncer: { peer_id: id },
    pgsteer: { workers: id === 1 ? 2 : 1 },
  })
  return steer.console('RELOAD')
}

/** Sends a CancelRequest and waits for the end of the connection. */
async function cancel(steer: Steer, processId: number, secret: number): Promise<void> {
  const socket = connect(steer.port, steer.host)
  const packet = Buffer.alloc(16)
  packet.writeInt32BE(16, 0)
  packet.writeInt32BE(80_877_102, 4)
  packet.writeInt32BE(processId, 8)
  packet.writeInt32BE(secret | 0, 12)
  socket.on('error', () => undefined)
  socket.resume()
  socket.write(packet)
  await once(socket, 'close', { signal: AbortSignal.timeout(20_000) })
}

async function running(mark: string): Promise<boolean> {
  const client = await one.steer.connect()
  const sql = `/* pgsteer: primary */ select from pg_stat_activity where state = 'active' and query like '%${mark}_%' and pid <> pg_backend_pid()`
  const { rowCount } = await client.query(sql)
  await client.end()
  return (rowCount ?? 0) > 0
}

test('a cancel request through the other instance cancels this query, and no other', async () => {
  const peers = `1 = host=127.0.0.1 port=${one.steer.port}\n2 = host=127.0.0.1 port=${other.steer.port}`
  await introduce(one.steer, 1, peers)
  await introduce(other.steer, 2, peers)
  for (const [home, away] of [
    [one.steer, other.steer],
    [other.steer, one.steer],
  ] as const) {
    const client = await home.connect()
    const bystander = await home.connect()
    const id = Number(Reflect.get(client, 'processID'))
    const secret = Number(Reflect.get(client, 'secretKey'))
    const slow = client.query("/* pgsteer: primary */ select pg_sleep(60), 'victim1'")
    const ended = expect(slow).rejects.toMatchObject({ code: '57014' })
    const spared = bystander.query("/* pgsteer: primary */ select pg_sleep(1), 'spared' as who")
    await waitFor('the query runs', () => running('victim'))
    await cancel(away, id, secret ^ 0x01000000)
    await cancel(away, id, secret)
    await ended
    expect((await spared).rows).toMatchObject([{ who: 'spared' }])
    expect((await client.query('select 1 as n')).rows).toEqual([{ n: 1 }])
    await client.end()
    await bystander.end()
  }
})

/** Nobody is instance 9. */
function wrong(port: number): string {
  return `9 = host=127.0.0.1 port=${port}`
}

test('peers that point at each other wrongly do not keep a request for ever', async () => {
  await introduce(one.steer, 1, wrong(other.steer.port))
  await introduce(other.steer, 2, wrong(one.steer.port))
  await cancel(one.steer, 9 << 16, 0x7fffffff)
  const client = await one.steer.connect()
  expect((await client.query('select 1 as n')).rows).toEqual([{ n: 1 }])
  await client.end()
})
