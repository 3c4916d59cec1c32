/**
 * What a client sees of its server: its own answers, byte for byte and in order, however the bytes
 * were cut, and nothing of what answers a message of ours.
 */
import { fc, test } from '@fast-check/vitest'
import { describe, expect } from 'vitest'
import { ProxyError } from '../../../src/base/errors.ts'
import { Relay, type RelayOwner } from '../../../src/client/relay.ts'
import { FORWARD, forwardEntry, localEntry, SWALLOW } from '../../../src/client/work.ts'
import type { ServerConnection } from '../../../src/server/connection.ts'
import { type Entry, Ledger } from '../../../src/wire/ledger.ts'
import { reportFields } from '../../../src/wire/messages.ts'
import { backend } from '../../support/bytes.ts'

/** As much of a server as a relay looks at. */
function fakeServer(): ServerConnection {
  const server = {
    ledger: new Ledger(),
    status: 0,
    report: (body: Buffer) => {
      const [name = '', value = ''] = body.toString().split('\0')
      return { name, value }
    },
  }
  return server as unknown as ServerConnection
}

class Client implements RelayOwner {
  readonly sent: Buffer[] = []
  readonly tags: string[] = []
  readonly errors: string[] = []
  readonly ready: boolean[] = []
  keepsErrors = false
  keepsEnds = false
  #copies = 0
  readonly relay = new Relay(this, {
    begin: () => {
      this.#copies += 1
    },
    fail: () => {},
  })

  get copies(): number {
    return this.#copies
  }
  get bytes(): Buffer {
    return Buffer.concat(this.sent)
  }
  onComplete(_entry: Entry, tag: string): Buffer | null {
    this.tags.push(tag)
    return null
  }
  onError(fields: Readonly<Record<string, string>>): boolean {
    this.errors.push(fields['C'] ?? '')
    return this.keepsErrors
  }
  mayRepeat(): boolean {
    return false
  }
  keepsEnd(): boolean {
    return this.keepsEnds
  }
  onReady(_status: number, forward: boolean): void {
    this.ready.push(forward)
  }
  onReport(name: string): boolean {
    return name !== 'in_hot_standby'
  }
  send(bytes: Buffer): void {
    this.sent.push(Buffer.from(bytes))
  }
}

/** What was booked, what the server says, and what of that the client is to see. */
interface Exchange {
  readonly entries: readonly Entry[]
  readonly said: readonly Buffer[]
  readonly seen: readonly Buffer[]
}

const payload = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes))
const noise = fc.constantFrom<Buffer[]>(
  [],
  [backend.noticeResponse('01000', 'noted')],
  [backend.parameterStatus('TimeZone', 'UTC')],
)

/** A Query of the client: noise, rows, an end that may be an error. */
const ownQuery = fc
  .tuple(fc.array(payload, { maxLength: 4 }), noise, fc.boolean())
  .map(([rows, before, fails]): Exchange => {
    const said = [
      ...before,
      backend.rowDescription([{ name: 'a' }]),
      ...rows.map((row) => backend.dataRow([row])),
      fails ? backend.errorResponse('22012', 'division') : backend.commandComplete('SELECT 1'),
      backend.readyForQuery(fails ? 'E' : 'I'),
    ]
    return { entries: [FORWARD.query], said, seen: said }
  })

/** A statement of ours: nothing of it may be seen. */
const ourQuery = fc.tuple(payload, noise).map(([row, before]): Exchange => {
  const said = [
    ...before,
    backend.dataRow([row]),
    backend.commandComplete('SET'),
    backend.readyForQuery('I'),
  ]
  return { entries: [SWALLOW.query], said, seen: [] }
})

/** A batch with a Parse of ours in front, or one of the client that the server is spared. */
const batch = fc
  .tuple(fc.array(payload, { maxLength: 3 }), fc.boolean(), fc.nat(3))
  .map(([rows, isInjected, failsAt]): Exchange => {
    const parse = isInjected ? SWALLOW.parse : localEntry(() => backend.parseComplete(), null)
    const entries = [parse, FORWARD.bind, FORWARD.describe, FORWARD.execute, FORWARD.sync]
    const parsed = isInjected ? [backend.parseComplete()] : []
    const answers = [
      [backend.bindComplete()],
      [backend.rowDescription([{ name: 'a' }])],
      [...rows.map((row) => backend.dataRow([row])), backend.commandComplete('SELECT 1')],
    ]
    const end = [
      ...(failsAt < 3 ? [backend.errorResponse('42P01', 'missing')] : []),
      backend.readyForQuery('I'),
    ]
    const own = [...answers.slice(0, failsAt).flat(), ...end]
    return {
      entries,
      said: [...parsed, ...own],
      seen: [...(isInjected ? [] : [backend.parseComplete()]), ...own],
    }
  })

const conversation = fc.array(fc.oneof(ownQuery, ourQuery, batch), { minLength: 1, maxLength: 6 })

function cut(bytes: Buffer, lengths: readonly number[]): Buffer[] {
  const chunks: Buffer[] = []
  let rest = bytes
  for (let turn = 0; rest.length > 0; turn += 1) {
    const length = lengths[turn % lengths.length] ?? 1
    chunks.push(Buffer.from(rest.subarray(0, length)))
    rest = rest.subarray(length)
  }
  return chunks
}

test.prop(
  [conversation, fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 20 })],
  { numRuns: 300 },
)(
  'the client sees its own answers and nothing of ours, however the bytes were cut',
  (all, cuts) => {
    const server = fakeServer()
    const client = new Client()
    for (const { entries } of all) for (const entry of entries) server.ledger.push(entry)
    client.relay.drainLocals(server)
    for (const chunk of cut(Buffer.concat(all.flatMap(({ said }) => said)), cuts)) {
      client.relay.onBytes(chunk, server)
      // What was handed over may be used again by whoever read it.
      chunk.fill(0xff)
    }
    expect(client.bytes).toEqual(withoutNoiseOfOurs(all))
    expect(server.ledger.length).toBe(0)
    expect(client.relay.isMidMessage).toBe(false)
  },
)

function withoutNoiseOfOurs(all: readonly Exchange[]): Buffer {
  return Buffer.concat(all.flatMap(({ seen }) => seen))
}

describe('an answer that is asked for once more elsewhere', () => {
  test('leaves no byte of the first with the client', () => {
    const server = fakeServer()
    const client = new Client()
    client.keepsErrors = true
    server.ledger.push(FORWARD.query)
    const refused = [
      backend.noticeResponse('01000', 'on its way'),
      backend.errorResponse('25006', 'read-only'),
    ]
    client.relay.onBytes(Buffer.concat(refused), server)
    client.relay.onBytes(backend.readyForQuery('I'), server)
    expect(client.bytes).toHaveLength(0)
    expect(client.ready).toEqual([false])
    server.ledger.push(FORWARD.query)
    client.relay.onBytes(backend.readyForQuery('I'), server)
    expect(client.bytes).toEqual(backend.readyForQuery('I'))
  })

  test('keeps what belongs to the answer before it', () => {
    const server = fakeServer()
    const client = new Client()
    server.ledger.push(FORWARD.query)
    server.ledger.push(FORWARD.query)
    const first = [backend.commandComplete('SELECT 0'), backend.readyForQuery('I')]
    client.relay.onBytes(Buffer.concat(first), server)
    client.keepsErrors = true
    client.relay.onBytes(backend.errorResponse('25006', 'read-only'), server)
    expect(client.bytes).toEqual(Buffer.concat(first))
  })
})

test('what only a server knows is not told to the client', () => {
  const server = fakeServer()
  const client = new Client()
  client.relay.onBytes(backend.parameterStatus('in_hot_standby', 'on'), server)
  client.relay.onBytes(backend.parameterStatus('DateStyle', 'German'), server)
  expect(client.bytes).toEqual(backend.parameterStatus('DateStyle', 'German'))
})

test('a statement is complete with its tag', () => {
  const server = fakeServer()
  const client = new Client()
  server.ledger.push(forwardEntry('query', { settle: () => undefined }))
  client.relay.onBytes(backend.commandComplete('INSERT 0 1'), server)
  expect(client.tags).toEqual(['INSERT 0 1'])
})

test('COPY FROM STDIN is noticed', () => {
  const server = fakeServer()
  const client = new Client()
  server.ledger.push(FORWARD.query)
  client.relay.onBytes(backend.copyInResponse(1), server)
  expect(client.copies).toBe(1)
})

describe('a server that breaks the protocol is not believed', () => {
  test.each([
    ['a row that nobody asked for', backend.dataRow(['x']), []],
    ['an answer that nobody asked for', backend.commandComplete('SELECT 1'), []],
    ['ReadyForQuery that nobody waits for', backend.readyForQuery('I'), []],
    ['ReadyForQuery before what is owed', backend.readyForQuery('I'), [FORWARD.bind, FORWARD.sync]],
    ['a log-in message', backend.authenticationOk(), [FORWARD.query]],
    ['a cancel key', backend.backendKeyData(1, 2), [FORWARD.query]],
    ['a length that no message has', Buffer.from('C\0\0\0\x03', 'latin1'), [FORWARD.query]],
    ['a negative length', Buffer.from('D\xff\xff\xff\xff', 'latin1'), [FORWARD.query]],
  ] as const)('%s', (_, bytes, entries) => {
    const server = fakeServer()
    const client = new Client()
    for (const entry of entries) server.ledger.push(entry)
    expect(() => client.relay.onBytes(bytes, server)).toThrow(ProxyError)
    expect(client.bytes).toHaveLength(0)
  })

  test.prop([fc.uint8Array({ maxLength: 200 }), fc.boolean()])(
    'any bytes are passed or refused with an error of the table',
    (bytes, isOwed) => {
      const server = fakeServer()
      const client = new Client()
      if (isOwed) server.ledger.push(FORWARD.query)
      try {
        client.relay.onBytes(Buffer.from(bytes), server)
      } catch (error) {
        expect(error).toBeInstanceOf(ProxyError)
      }
      expect(client.bytes.length).toBeLessThanOrEqual(bytes.length)
    },
  )
})

test('fields of an error are those that were sent', () => {
  const body = backend.errorResponse('25006', 'read-only').subarray(5)
  expect(reportFields(body)).toMatchObject({ C: '25006', M: 'read-only' })
})

test('a server that ends behind a whole answer takes nothing of it along', () => {
  const client = new Client()
  client.keepsEnds = true
  const server = fakeServer()
  server.ledger.push(FORWARD.query)
  const answer = Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery('I')])
  const end = backend.errorResponse('57P01', 'terminating', 'FATAL')
  client.relay.onBytes(Buffer.concat([answer, end]), server)
  expect(client.bytes.equals(answer)).toBe(true)
  expect(client.errors).toEqual([])
})
