/**
 * Hostile bytes from clients and from servers: whatever they send, the worker lives, ends their
 * connection or answers, and sessions beside them are right. Servers here are sockets that speak
 * enough of the protocol, then garbage.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backend, frames, frontend, message } from '../support/bytes.ts'
import { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

/** A server that answers every Query with its own text, until its text asks for something else. */
class FakeServer {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  /** What a query of this text is answered with. */
  readonly answers = new Map<string, (socket: Socket) => void>()

  private constructor(server: Server) {
    this.#server = server
    server.on('connection', (socket) => this.#accept(socket))
  }

  static async open(): Promise<FakeServer> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new FakeServer(server)
  }

  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('error', () => undefined)
    let rest: Buffer = Buffer.alloc(0)
    let isStarted = false
    socket.on('data', (bytes: Buffer) => {
      rest = Buffer.concat([rest, bytes])
      if (!isStarted) {
        if (rest.length < 8 || rest.length < rest.readInt32BE(0)) return
        const code = rest.readInt32BE(4)
        rest = rest.subarray(rest.readInt32BE(0))
        if (code === 80_877_103) {
          socket.write('N')
          return
        }
        isStarted = true
        socket.write(WELCOME)
      }
      const cut = frames(rest)
      rest = cut.rest
      for (const { type, body } of cut.frames)
        if (type === 'Q') this.#answer(socket, body.toString('utf8', 0, body.length - 1))
    })
  }

  #answer(socket: Socket, text: string): void {
    const own = this.answers.get(text)
    if (own === undefined) socket.write(answerOf(text))
    else own(socket)
  }
}

const WELCOME = Buffer.concat([
  backend.authenticationOk(),
  backend.parameterStatus('server_version', '15.0'),
  backend.parameterStatus('client_encoding', 'UTF8'),
  backend.parameterStatus('standard_conforming_strings', 'on'),
  backend.backendKeyData(7, 8),
  backend.readyForQuery(),
])

const answerOf = (text: string): Buffer =>
  Buffer.concat([
    backend.rowDescription([{ name: 'echo' }]),
    backend.dataRow([text]),
    backend.commandComplete('SELECT 1'),
    backend.readyForQuery(),
  ])

let server: FakeServer
let steer: Steer

beforeAll(async () => {
  server = await FakeServer.open()
  steer = await Steer.start(null, {
    databases: `* = host=127.0.0.1 port=${server.port}`,
    untilReady: false,
    pgbouncer: {
      auth_type: 'trust',
      default_pool_size: 30,
      server_login_retry: 0,
      log_connections: 0,
    },
    pgsteer: { frame_bytes_before_login_max: 2000, log_level: 'warn' },
  })
}, 60_000)

afterAll(async () => {
  await steer.stop()
  await server.close()
}, 60_000)

/** A session beside the hostile one, and proof that it is right. */
async function bystander(): Promise<WireClient> {
  const client = await steer.wire({ database: 'app' })
  expect((await client.query('beside')).rows).toEqual([['beside']])
  return client
}

/** Sends bytes on a fresh connection; resolves when it is closed, by whomever, within the deadline. */
async function throwAt(bytes: Buffer): Promise<void> {
  const socket = connect({ host: '127.0.0.1', port: steer.port })
  socket.on('error', () => undefined)
  socket.resume()
  await once(socket, 'connect')
  socket.end(bytes)
  await Promise.race([
    once(socket, 'close'),
    new Promise((_, reject) => {
      setTimeout(() => reject(new Error('the connection stays open')), 15_000).unref()
    }),
  ])
}

function mutated(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes)
  for (let change = randomInt(1, 6); change > 0; change -= 1)
    copy[randomInt(copy.length)] = randomInt(256)
  return randomInt(3) === 0 ? copy.subarray(0, randomInt(copy.length)) : copy
}

const STARTUP = frontend.startup({ user: 'demo', database: 'app', application_name: 'fuzz' })

const SPEECH = Buffer.concat([
  frontend.query('SELECT 1'),
  frontend.parse('name', 'SELECT $1', [23]),
  frontend.bind({ statement: 'name', values: ['1', null], formats: [0], resultFormats: [1] }),
  frontend.describe('S', 'name'),
  frontend.describe('P'),
  frontend.execute('', 5),
  frontend.close('S', 'name'),
  frontend.flush(),
  frontend.copyData('x'),
  frontend.copyDone(),
  frontend.copyFail('x'),
  frontend.functionCall(5, ['x']),
  frontend.sync(),
  frontend.terminate(),
])

describe('hostile clients', () => {
  test('300 mutated start-up packets', async () => {
    const beside = await bystander()
    const workers = steer.workers
    const firsts = [
      STARTUP,
      frontend.sslRequest(),
      frontend.gssEncRequest(),
      frontend.cancelRequest(1, 2),
    ]
    for (let round = 0; round < 15; round += 1)
      await Promise.all(
        Array.from({ length: 20 }, () =>
          throwAt(
            randomInt(4) === 0
              ? randomBytes(randomInt(1, 300))
              : mutated(firsts[randomInt(4)] ?? STARTUP),
          ),
        ),
      )
    expect((await beside.query('still')).rows).toEqual([['still']])
    expect(steer.workers).toEqual(workers)
    await beside.close()
  }, 60_000)

  test('300 sessions of mutated messages behind a good log-in', async () => {
    const beside = await bystander()
    const workers = steer.workers
    for (let round = 0; round < 15; round += 1)
      await Promise.all(
        Array.from({ length: 20 }, () => throwAt(Buffer.concat([STARTUP, mutated(SPEECH)]))),
      )
    expect((await beside.query('still')).rows).toEqual([['still']])
    expect(steer.workers).toEqual(workers)
    await beside.close()
  }, 60_000)

  test.each([
    ['a length of 3', Buffer.from([0x51, 0, 0, 0, 3])],
    ['a negative length', Buffer.from([0x51, 0xff, 0xff, 0xff, 0xff])],
    ['a type that does not exist', message('~', 'x')],
    ['a server message', backend.readyForQuery()],
    ['a password out of turn', frontend.password('x')],
    ['a Bind without its strings', message('B', 'abc')],
    ['a Parse without an end', message('P', 'abc')],
    ['a Query without an end', message('Q', 'abc')],
    ['a Describe of nothing', Buffer.concat([message('D'), frontend.sync()])],
    ['a Close of nothing', Buffer.concat([message('C'), frontend.sync()])],
  ])('%s is answered by FATAL 08P01 and the end', async (_, bytes) => {
    const beside = await bystander()
    const client = await steer.wire({ database: 'app' })
    client.send(bytes)
    await client.ended()
    const answer = await client.until('E')
    expect(answer.errors[0]).toMatchObject({ S: 'FATAL', C: '08P01' })
    expect((await beside.query('still')).rows).toEqual([['still']])
    await beside.close()
  })

  test('a huge message before the log-in is refused by its length', async () => {
    const socket = connect({ host: '127.0.0.1', port: steer.port })
    socket.on('error', () => undefined)
    socket.write(Buffer.from([0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]))
    let said = Buffer.alloc(0)
    socket.on('data', (bytes: Buffer) => {
      said = Buffer.concat([said, bytes])
    })
    await once(socket, 'close')
    expect(said.toString('latin1')).toContain('08P01')
  })
})

describe('hostile servers', () => {
  const GARBAGE: readonly (readonly [string, () => Buffer])[] = [
    ['random bytes', () => randomBytes(500)],
    ['a bad length', () => Buffer.from([0x44, 0, 0, 0, 1])],
    ['a negative length', () => Buffer.from([0x44, 0xff, 0xff, 0xff, 0xf0])],
    ['a ReadyForQuery too many', () => Buffer.concat([answerOf('x'), backend.readyForQuery()])],
    ['a log-in message', () => backend.authenticationOk()],
    ['a broken report', () => message('S', 'no end')],
    ['ParseComplete out of turn', () => Buffer.concat([backend.parseComplete(), answerOf('x')])],
    ['a ReadyForQuery without a status', () => message('Z')],
    ['a ReadyForQuery of a status that does not exist', () => message('Z', 'Q')],
  ]

  test.each(GARBAGE)('%s never reaches another session', async (name, bytes) => {
    server.answers.set(name, (socket) => socket.write(bytes()))
    const workers = steer.workers
    const beside = await bystander()
    const victim = await steer.wire({ database: 'app', withinMs: 5000 })
    victim.send(frontend.query(name))
    // It may be told something or nothing; the others go on, with servers of their own.
    for (let turn = 0; turn < 20; turn += 1) {
      const text = `beside ${name} ${turn}`
      const answer = await beside.query(text)
      expect(answer.rows).toEqual([[text]])
    }
    victim.destroy()
    const after = await Promise.all(
      Array.from({ length: 6 }, async (_, index) => {
        const client = await steer.wire({ database: 'app' })
        const answer = await client.query(`after ${index}`)
        await client.close()
        return answer.rows
      }),
    )
    expect(after).toEqual(Array.from({ length: 6 }, (_, index) => [[`after ${index}`]]))
    expect(steer.workers).toEqual(workers)
    await beside.close()
  })

  test('200 answers with flipped bytes: the worker lives and others get their own', async () => {
    const workers = steer.workers
    const beside = await bystander()
    server.answers.set('flip', (socket) => socket.write(mutated(answerOf('flip'))))
    for (let round = 0; round < 10; round += 1) {
      const victims = await Promise.all(
        Array.from({ length: 20 }, () => steer.wire({ database: 'app' })),
      )
      for (const victim of victims) victim.send(frontend.query('flip'))
      expect((await beside.query(`round ${round}`)).rows).toEqual([[`round ${round}`]])
      for (const victim of victims) victim.destroy()
    }
    expect((await beside.query('end')).rows).toEqual([['end']])
    expect(steer.workers).toEqual(workers)
    await beside.close()
  }, 60_000)

  test('a server that says something while nobody holds it is not used again', async () => {
    const client = await steer.wire({ database: 'idle' })
    let held: Socket | undefined
    server.answers.set('remember', (socket) => {
      held = socket
      socket.write(answerOf('remember'))
    })
    await client.query('remember')
    await waitFor('its server is idle', async () => {
      const servers = await steer.console('SHOW SERVERS')
      return servers.some((row) => row['database'] === 'idle' && row['state'] === 'idle')
    })
    held?.write(backend.dataRow(['poison']))
    await waitFor(
      'its server is closed',
      () => held?.destroyed === true || held?.readableEnded === true,
    )
    expect((await client.query('clean')).rows).toEqual([['clean']])
    await client.close()
  })

  test('a server that ends in the middle of an answer ends or answers its client only', async () => {
    const beside = await bystander()
    server.answers.set('half', (socket) => {
      const bytes = answerOf('half')
      socket.end(bytes.subarray(0, bytes.length - 12))
    })
    const victim = await steer.wire({ database: 'app' })
    const answer = await victim.query('half')
    expect(answer.types).toContain('E')
    expect((await beside.query('still')).rows).toEqual([['still']])
    await beside.close()
    victim.destroy()
  })
})
