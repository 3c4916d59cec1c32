/** What goes through `pg` finds names as clients' connections do: probes, the catalogue, auth_query. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { openDirect } from '../../../src/cluster/direct.ts'
import { EMPTY_TOPOLOGY } from '../../../src/cluster/topology.ts'
import { namedSocket } from '../../../src/net/dial.ts'
import { ServerTls, serverTlsSettings } from '../../../src/net/tls.ts'
import { authQuery } from '../../../src/server/authquery.ts'
import { configFrom } from '../../support/config.ts'

/** The only resolver that knows the name. */
const asked = vi.hoisted(() => ({ names: new Array<string>() }))
vi.mock('node:dns/promises', () => ({
  lookup: (name: string) => {
    asked.names.push(name)
    return Promise.resolve([{ address: '127.0.0.1', family: 4 }])
  },
}))

const NAME = 'pg1.invalid'
const ACCESS = { user: 'p', password: 'p', database: 'd', timeoutMs: 1000 }
const directory = mkdtempSync(join(tmpdir(), 'pgsteer-named-'))
let server: Server
let arrivals = 0

/** A server that hangs up on everybody who says something. */
async function listen(place: { port: number; host: string } | { path: string }): Promise<number> {
  server = createServer((socket) => {
    arrivals += 1
    socket.once('data', () => socket.end())
  })
  await new Promise<void>((resolve) => server.listen(place, resolve))
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 5432
}

beforeEach(() => {
  arrivals = 0
  asked.names.length = 0
})
afterEach(() => server.close())
afterAll(() => rmSync(directory, { recursive: true }))

test('a probe', async () => {
  const port = await listen({ port: 0, host: '127.0.0.1' })
  const access = { ...ACCESS, tls: { mode: 'disable' }, socket: namedSocket } as const
  const options = { usesTls: false, name: 'test', isText: true }
  const direct = openDirect({ host: NAME, port }, access, options)
  await expect(direct.client.connect()).rejects.toThrow()
  expect([asked.names, arrivals]).toEqual([[NAME], 1])
})

test('auth_query', async () => {
  const port = await listen({ port: 0, host: '127.0.0.1' })
  const config = configFrom(
    `[databases]\napp = host=${NAME} port=${port}\n[pgbouncer]\nauth_user = asker\n`,
  )
  const withSecret = { ...config, userlist: new Map([['asker', 'asker']]) }
  const ask = authQuery({
    config: () => withSecret,
    topology: () => EMPTY_TOPOLOGY,
    tls: new ServerTls(serverTlsSettings(config.pgbouncer)),
    clock: systemClock,
  })
  await expect(ask('alice', 'app')).rejects.toMatchObject({ code: 'auth_query_failed' })
  expect(asked.names[0]).toBe(NAME)
  expect(arrivals).toBeGreaterThan(0)
})

test('the path of a Unix socket is no name', async () => {
  await listen({ path: join(directory, '.s.PGSQL.5432') })
  const access = { ...ACCESS, tls: { mode: 'disable' }, socket: namedSocket } as const
  const options = { usesTls: false, name: 'test', isText: true }
  const direct = openDirect({ host: directory, port: 5432 }, access, options)
  await expect(direct.client.connect()).rejects.toThrow()
  expect([asked.names, arrivals]).toEqual([[], 1])
})
