import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { KeyDeriver, mockVerifier } from '../../src/auth/derive.ts'
import { SCRAM, ScramServer } from '../../src/auth/scram.ts'
import type { ServerSecret } from '../../src/auth/secret.ts'
import { systemClock } from '../../src/base/clock.ts'
import { ProxyError } from '../../src/base/errors.ts'
import type { SslMode } from '../../src/config/keys/pgbouncer.ts'
import { ServerTls } from '../../src/net/tls.ts'
import { logIn, SERVER_LOGIN_MOVES, sendCancel } from '../../src/server/login.ts'
import { backend, message, raw } from '../support/bytes.ts'

/** What a made-up server does with one connection. */
type Script = (socket: Socket) => void

const servers: Server[] = []
const sockets = new Set<Socket>()

afterEach(() => {
  for (const socket of sockets) socket.destroy()
  for (const server of servers.splice(0)) server.close()
})

async function serve(script: Script): Promise<number> {
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    script(socket)
  }).listen(0, '127.0.0.1')
  servers.push(server)
  await once(server, 'listening')
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

const tlsOf = (sslmode: SslMode): ServerTls =>
  new ServerTls({
    sslmode,
    caFile: null,
    certFile: null,
    keyFile: null,
    ciphers: 'default',
    tls13Ciphers: null,
    protocols: 'secure',
    ecdhCurve: 'auto',
  })

const deriver = new KeyDeriver()

interface Options {
  readonly secret?: ServerSecret
  readonly mode?: SslMode
  readonly deadlineMs?: number
}

async function login(script: Script, options: Options = {}) {
  const {
    secret = { kind: 'plain', password: 'secret' },
    mode = 'disable',
    deadlineMs = 3000,
  } = options
  const loggedIn = await logIn(
    {
      address: { host: '127.0.0.1', port: await serve(script) },
      database: 'app',
      user: 'alice',
      secret,
      startup: new Map(),
      replication: null,
      tls: tlsOf(mode),
      deadlineMs,
    },
    { clock: systemClock, deriver, keepAliveMs: 0 },
  )
  loggedIn.channel.destroy()
  return loggedIn
}

/** Answers the first bytes with these, and says no more. */
const answer =
  (...bytes: readonly Buffer[]): Script =>
  (socket) => {
    socket.once('data', () => socket.write(Buffer.concat(bytes)))
  }

const errorOf = async (promise: Promise<unknown>): Promise<ProxyError> => {
  const error: unknown = await promise.then(
    () => new Error('it was let in'),
    (cause: unknown) => cause,
  )
  if (error instanceof ProxyError) return error
  throw error
}

const ok = backend.authenticationOk()
const ready = backend.readyForQuery()

it('a server that trusts lets us in, with all that it said', async () => {
  const { parameters, processId, cancelSecret } = await login(
    answer(
      ok,
      backend.noticeResponse('00000', 'hello'),
      backend.parameterStatus('TimeZone', 'UTC'),
      backend.backendKeyData(4_000_000_000 | 0, 7),
      ready,
    ),
  )
  expect(Object.fromEntries(parameters)).toEqual({ TimeZone: 'UTC' })
  expect(processId).toBe(4_000_000_000)
  expect(cancelSecret).toEqual(Buffer.of(0, 0, 0, 7))
})

/** Speaks SCRAM with the right secret, changed as the test says. */
const scram =
  (change: { final?: (text: string) => Buffer[]; first?: (text: string) => string }): Script =>
  async (socket) => {
    const { storedKey, serverKey } = await deriver.keys('secret', Buffer.from('salt'), 4096)
    const machine = new ScramServer({
      verifier: { iterations: 4096, salt: Buffer.from('salt'), storedKey, serverKey },
      isMock: false,
      mechanism: SCRAM,
      binding: null,
    })
    await once(socket, 'data')
    socket.write(backend.authenticationSasl([SCRAM]))
    const [initial] = (await once(socket, 'data')) as [Buffer]
    const first = machine.challenge(initial.toString('utf8', initial.indexOf('n,,')))
    socket.write(backend.authenticationSaslContinue(change.first?.(first) ?? first))
    const [final] = (await once(socket, 'data')) as [Buffer]
    const { serverFinal } = machine.verify(final.toString('utf8', 5))
    const last = change.final?.(serverFinal)
    socket.write(Buffer.concat(last ?? [backend.authenticationSaslFinal(serverFinal), ok, ready]))
  }

const without =
  (tells: Buffer[] = []): Script =>
  (socket) => {
    socket.on('data', (bytes: Buffer) => {
      tells.push(bytes)
      const asks = bytes.length === 8 && bytes.readInt32BE(4) === 80_877_103
      socket.write(asks ? 'N' : Buffer.concat([ok, ready]))
    })
  }

const cancel = async (script: Script, deadlineMs = 3000) =>
  sendCancel(
    {
      address: { host: '127.0.0.1', port: await serve(script) },
      processId: 4_000_000_000,
      secret: Buffer.alloc(32, 7),
      tls: null,
      deadlineMs,
    },
    { clock: systemClock, keepAliveMs: 0 },
  )

const tooMuchWork = (text: string): string => text.replace('i=4096', 'i=100000000')

const again: Script = (socket) => {
  socket.on('data', () => socket.write(backend.authenticationSasl([SCRAM])))
}

const failingHandshake: Script = (socket) => {
  socket.on('data', (bytes: Buffer) => {
    if (bytes.length === 8) socket.write('S')
    else if (bytes[0] === 0x16) socket.end(Buffer.from('this is no TLS'))
    else socket.write(Buffer.concat([ok, ready]))
  })
}

describe('a server that sends', () => {
  const huge = raw.join(['R', raw.int32(2_000_000_000)])
  it.each<[string, Buffer, string]>([
    ['a frame without end', huge, 'server_protocol'],
    ['a negative length', raw.join(['R', raw.int32(-5)]), 'server_protocol'],
    ['a length of 3', raw.join(['R', raw.int32(3)]), 'server_protocol'],
    ['an empty authentication', message('R'), 'server_protocol'],
    ['ReadyForQuery first', ready, 'server_protocol'],
    ['Ok twice', raw.join([ok, ok]), 'server_protocol'],
    ['an open transaction', raw.join([ok, backend.readyForQuery('T')]), 'server_protocol'],
    ['rows', raw.join([ok, backend.dataRow(['x'])]), 'server_protocol'],
    ['a version', backend.negotiateProtocolVersion(0x30000, []), 'server_protocol'],
    ['an empty key', raw.join([ok, message('K')]), 'server_protocol'],
    ['a long key', raw.join([ok, message('K', Buffer.alloc(261))]), 'server_protocol'],
    ['an md5 salt of 3 bytes', message('R', raw.int32(5), Buffer.alloc(3)), 'server_protocol'],
    ['Kerberos', message('R', raw.int32(2)), 'server_protocol'],
    ['SCRAM in the middle', backend.authenticationSaslContinue('r=x'), 'server_protocol'],
    ['other mechanisms', backend.authenticationSasl(['SCRAM-SHA-256-PLUS', 'X']), 'server_auth'],
    ['an error without end', message('E', 'SFATAL'), 'server_login_failed'],
    ['an empty error', message('E'), 'server_login_failed'],
    ['settings without end', raw.join([ok, message('S', 'a')]), 'server_protocol'],
  ])('%s is refused', async (_, bytes, code) => {
    const error = await errorOf(login(answer(bytes), { deadlineMs: 400 }))
    expect(error.code).toBe(code)
  })

  it('settings for ever is refused', async () => {
    const settings = Array.from({ length: 1100 }, (_, n) => backend.parameterStatus(`p${n}`, 'x'))
    const error = await errorOf(login(answer(ok, ...settings)))
    expect(error.message).toBe('server broke the protocol: too many messages during log-in')
  })

  it('its own error is quoted', async () => {
    const error = await errorOf(
      login(answer(backend.errorResponse('57P03', 'the database system is starting up', 'FATAL'))),
    )
    expect([error.code, error.sqlstate, error.message]).toEqual([
      'server_login_failed',
      '57P03',
      'the database system is starting up',
    ])
  })

  it('nothing ends with the deadline', async () => {
    const error = await errorOf(login(() => undefined, { deadlineMs: 60 }))
    expect(error.code).toBe('server_connect_timeout')
  })

  it('nothing and closes is lost', async () => {
    expect((await errorOf(login((socket) => socket.end()))).code).toBe('server_lost')
  })

  it('random bytes is refused with an error of the table, and never hangs', async () => {
    const kinds = fc.constantFrom(...'RSKZENvDT'.split(''))
    const frame = fc
      .tuple(kinds, fc.uint8Array({ maxLength: 40 }), fc.integer({ min: -1, max: 13 }))
      .map(([kind, body, code]) => message(kind, raw.int32(code), Buffer.from(body)))
    await fc.assert(
      fc.asyncProperty(fc.array(frame, { maxLength: 4 }), async (list) => {
        const closing: Script = (socket) => {
          socket.once('data', () => socket.end(Buffer.concat(list)))
        }
        const error: unknown = await login(closing).catch((cause: unknown) => cause)
        if (error instanceof Error) expect(error).toBeInstanceOf(ProxyError)
      }),
      { numRuns: 150 },
    )
  })
})

describe('SCRAM with a server', () => {
  it('lets us in when both prove themselves', async () => {
    await expect(login(scram({}))).resolves.toBeDefined()
  })

  it.each<[string, (text: string) => Buffer[], string]>([
    ['does not prove itself', () => [ok, ready], 'failed to verify server signature'],
    [
      'proves something else',
      () => [backend.authenticationSaslFinal(`v=${Buffer.alloc(32).toString('base64')}`), ok],
      'failed to verify server signature',
    ],
    [
      'proves nothing that can be read',
      () => [backend.authenticationSaslFinal('v=x'), ok],
      'invalid server signature',
    ],
  ])('ends when the server %s', async (_, final, reason) => {
    const error = await errorOf(login(scram({ final })))
    expect(error.message).toBe(`server login failed: ${reason}`)
  })

  it('ends when the server asks for too much work', async () => {
    const error = await errorOf(login(scram({ first: tooMuchWork })))
    expect(error.message).toBe(
      'server login failed: the server asks for 100000000 SCRAM iterations',
    )
  })

  it('is not begun twice', async () => {
    const error = await errorOf(login(again))
    expect(error.message).toBe('server broke the protocol: SASL is begun twice')
  })

  it('says 28P01 when the keys that were learnt are those of an older secret', async () => {
    const { clientKey, serverKey } = await deriver.keys('secret', Buffer.from('older'), 4096)
    const { salt, iterations } = mockVerifier(Buffer.alloc(16), 'x', 4096)
    const secret = { kind: 'scram', clientKey, serverKey, salt, iterations } as const
    expect((await errorOf(login(scram({}), { secret }))).sqlstate).toBe('28P01')
  })
})

describe('sslmode towards a server without TLS', () => {
  it.each<[SslMode, number]>([
    ['disable', 1],
    ['allow', 1],
    ['prefer', 2],
  ])('%s goes on in clear', async (mode, packets) => {
    const told: Buffer[] = []
    await login(without(told), { mode })
    expect(told).toHaveLength(packets)
  })

  it('require does not, and says nothing in clear', async () => {
    const told: Buffer[] = []
    const error = await errorOf(login(without(told), { mode: 'require' }))
    expect(error.message).toBe('server TLS failed: the server does not support TLS')
    expect(told).toHaveLength(1)
  })

  it.each<[string, Buffer]>([
    ['an error in clear', backend.errorResponse('08P01', 'forged')],
    ['yes, and more', Buffer.from('Sx')],
    ['another letter', Buffer.from('X')],
  ])('%s is not believed', async (_, bytes) => {
    const error = await errorOf(login(answer(bytes), { mode: 'prefer' }))
    expect(error.code).toBe('server_protocol')
    expect(error.message).not.toContain('forged')
  })

  it('prefer tries in clear when the handshake fails', async () => {
    const { channel } = await login(failingHandshake, { mode: 'prefer' })
    expect(channel.tls).toBe(null)
  })
})

describe('a cancel request', () => {
  it('ends when the server closes, and carries the whole key', async () => {
    const told: Buffer[] = []
    const script: Script = (socket) => {
      socket.once('data', (bytes: Buffer) => {
        told.push(bytes)
        socket.end()
      })
    }
    expect(await cancel(script)).toBe('ended')
    expect(told[0]?.toString('hex')).toBe(`0000002c04d2162eee6b2800${'07'.repeat(32)}`)
  })

  it('ends with the deadline when the server does not', async () => {
    expect(await cancel(() => undefined, 60)).toBe('deadline')
  })
})

it('the table of the server log-in reaches every state and every open one can fail', () => {
  const moves: Readonly<Record<string, readonly string[]>> = SERVER_LOGIN_MOVES
  const reached = new Set(['dialling'])
  for (const state of reached) for (const next of moves[state] ?? []) reached.add(next)
  expect([...reached].toSorted()).toEqual(Object.keys(moves).toSorted())
  for (const next of Object.values(moves)) if (next.length > 0) expect(next).toContain('failed')
})
