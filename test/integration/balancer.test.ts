/** The whole program behind a balancer that speaks the PROXY protocol, and clients that come by themselves. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { frontend, raw } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const BALANCER = '127.0.0.2'
const LOGIN = { user: 'demo', database: 'demo' }

const shared = useCluster({ replicas: 0 })
const front = useSteer(shared, { pgsteer: { proxy_protocol_networks: `${BALANCER}/32` } })

const clients: WireClient[] = []
afterEach(() => {
  for (const client of clients.splice(0)) client.destroy()
})

/** A connection from that address of this machine, with these first bytes. */
async function from(localAddress: string, head: Buffer = Buffer.alloc(0)): Promise<WireClient> {
  const { host, port } = front.steer
  const socket = connect({ host, port, localAddress, noDelay: true })
  await once(socket, 'connect')
  const client = new WireClient(socket)
  clients.push(client)
  client.send(head)
  return client
}

const version1 = (address: string): Buffer =>
  Buffer.from(`PROXY TCP4 ${address} 127.0.0.1 12345 6432\r\n`)

/** 2001:db8::9 port 12345, to ::1 port 6432. */
const version2 = Buffer.concat([
  Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
  Buffer.of(0x21, 0x21),
  raw.int16(36),
  Buffer.from('20010db8000000000000000000000009', 'hex'),
  Buffer.from('00000000000000000000000000000001', 'hex'),
  raw.int16(12_345),
  raw.int16(6432),
])

/** The log has a line for this event with this address. */
async function untilLogged(event: string, address: string): Promise<void> {
  await waitFor(`${event} from ${address}`, () =>
    front.steer.log
      .split('\n')
      .filter((line) => line.includes(`"${event}"`))
      .some((line) => (JSON.parse(line) as { address: unknown }).address === address),
  )
}

test.each([
  ['version 1', version1('203.0.113.9'), '203.0.113.9'],
  ['version 2', version2, '2001:db8::9'],
])('a header of %s names the client in SHOW CLIENTS and in the log', async (_, header, address) => {
  const client = await from(BALANCER, header)
  expect((await client.startup(LOGIN)).status).toBe('I')
  const shown = await front.steer.clientOf('demo')
  expect([shown?.['addr'], String(shown?.['port'])]).toEqual([address, '12345'])
  await untilLogged('client logged in', address)
  expect((await client.query('SELECT 1')).rows).toEqual([['1']])
  await client.close()
  await waitFor('nobody is left', async () => (await front.steer.clientOf('demo')) === undefined)
})

test('a connection of the balancer without a header is refused, and so is a header from anywhere else', async () => {
  const bare = await from(BALANCER, frontend.startup(LOGIN))
  expect((await bare.until('E')).errors[0]?.['M']).toBe('bad PROXY protocol header: none was sent')
  await untilLogged('log-in failed', BALANCER)
  const liar = await from(
    '127.0.0.3',
    Buffer.concat([version1('203.0.113.9'), frontend.startup(LOGIN)]),
  )
  expect((await liar.until('E')).errors[0]?.['M']).toMatch(/^bad packet header/)
  await untilLogged('log-in failed', '127.0.0.3')
  const plain = await from('127.0.0.3')
  expect((await plain.startup(LOGIN)).status).toBe('I')
})

test('a cancel request comes through the balancer too', async () => {
  const client = await from(BALANCER, version1('203.0.113.9'))
  await client.startup(LOGIN)
  client.send(frontend.query('SELECT pg_sleep(60)'))
  await waitFor('it runs', async () => {
    const rows = await shared.cluster.primary.query(
      "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'",
    )
    return rows.length === 1
  })
  const canceller = await from(BALANCER, version1('203.0.113.10'))
  canceller.send(frontend.cancelRequest(client.processId, client.key))
  await canceller.ended()
  expect((await client.ready()).sqlstate).toBe('57014')
})
