/** However a stream is cut into chunks, the same bytes come out: both directions, and the batches. */
import { fc, test } from '@fast-check/vitest'
import { describe, expect, test as plainTest } from 'vitest'
import { BatchReader } from '../../../src/client/batch.ts'
import { emptyStats } from '../../../src/client/facts.ts'
import { Forwarder } from '../../../src/client/forward.ts'
import { Pins } from '../../../src/client/pin.ts'
import { SessionPrepared } from '../../../src/client/prepared.ts'
import { Relay } from '../../../src/client/relay.ts'
import { SessionSettings } from '../../../src/client/settings.ts'
import { Transaction } from '../../../src/client/transaction.ts'
import { FORWARD, localEntry, SWALLOW } from '../../../src/client/work.ts'
import { EMPTY_CATALOGUE } from '../../../src/routing/catalogue.ts'
import { PreparedRegistry } from '../../../src/server/prepared.ts'
import { NO_SETTINGS } from '../../../src/server/settings.ts'
import type { Entry } from '../../../src/wire/ledger.ts'
import { backend, frames, frontend } from '../../support/bytes.ts'
import { judgeBy } from '../../support/judge.ts'
import { recordingServer } from '../../support/server.ts'

const judge = judgeBy(EMPTY_CATALOGUE)

/** Places to cut, as shares of the whole. */
const cuts = fc.array(fc.nat({ max: 10_000 }), { maxLength: 40 })

function* chunksOf(bytes: Buffer, places: readonly number[]): IterableIterator<Buffer> {
  const at = [...new Set(places.map((place) => Math.floor((place / 10_000) * bytes.length)))]
  let from = 0
  for (const to of [...at.toSorted((one, other) => one - other), bytes.length]) {
    if (to > from) yield bytes.subarray(from, to)
    from = Math.max(from, to)
  }
}

function forwarded(
  bytes: Buffer,
  places: readonly number[],
): { out: Buffer; left: number; kinds: string[] } {
  const registry = new PreparedRegistry()
  const { server, written } = recordingServer()
  const forwarder = new Forwarder({
    prepared: new SessionPrepared(registry),
    settings: new SessionSettings(NO_SETTINGS),
    transaction: new Transaction(),
    pins: new Pins(),
    registry,
    stats: emptyStats(),
    preparedMax: 3,
    frameBytesMax: 1_000_000,
    isQueryAllowed: true,
    ...judge,
    onStatement: () => undefined,
  })
  let input: Buffer = Buffer.alloc(0)
  for (const chunk of chunksOf(bytes, places)) {
    input = Buffer.concat([input, chunk])
    for (let taken = -1; taken !== 0 && input.length > 0; ) {
      taken = forwarder.forward(input, input.length, server)
      input = input.subarray(taken)
    }
  }
  return {
    out: written(),
    left: input.length,
    kinds: [...server.ledger].map((entry) => entry.kind),
  }
}

const message = fc.oneof(
  fc.constantFrom(
    frontend.query('SELECT 1'),
    frontend.query(`SELECT '${'x'.repeat(300)}'`),
    frontend.parse('', 'SELECT $1'),
    frontend.bind({ values: ['v'.repeat(200), null] }),
    frontend.bind({ statement: 'nobody' }),
    frontend.describe('P'),
    frontend.execute('', 3),
    frontend.sync(),
    frontend.flush(),
    frontend.functionCall(7, ['x']),
    frontend.close('P', 'c'),
  ),
  fc
    .nat({ max: 5 })
    .map((n) =>
      Buffer.concat([
        frontend.close('S', `s${n}`),
        frontend.parse(`s${n}`, `SELECT ${n} + $1`),
        frontend.bind({ statement: `s${n}`, values: [String(n)] }),
        frontend.describe('S', `s${n}`),
        frontend.execute(),
        frontend.sync(),
      ]),
    ),
)

describe('from the client to its server', () => {
  // A message whose front is enough goes on before it is whole; in the ledger and in bytes all is the same.
  test.prop([fc.array(message, { minLength: 1, maxLength: 15 }), cuts])(
    'any chunks give the same messages and the same replies owed',
    (messages, places) => {
      const bytes = Buffer.concat(messages)
      const whole = forwarded(bytes, [])
      const cut = forwarded(bytes, places)
      expect(cut.out.equals(whole.out)).toBe(true)
      expect(cut.left).toBe(0)
      expect(cut.kinds).toEqual(whole.kinds)
      expect(frames(cut.out).rest).toHaveLength(0)
    },
  )

  plainTest('names on the server are ours, and every message is well formed', () => {
    const { out } = forwarded(
      Buffer.concat([
        frontend.parse('mine', 'SELECT $1::text', [25]),
        frontend.bind({ portal: 'p', statement: 'mine', values: ['v'], formats: [0] }),
        frontend.describe('S', 'mine'),
        frontend.execute('p', 7),
        frontend.sync(),
      ]),
      [],
    )
    expect(
      frames(out)
        .frames.map(({ type }) => type)
        .join(''),
    ).toBe('PBDES')
    expect(
      out.equals(
        Buffer.concat([
          frontend.parse('PGSTEER_1', 'SELECT $1::text', [25]),
          frontend.bind({ portal: 'p', statement: 'PGSTEER_1', values: ['v'], formats: [0] }),
          frontend.describe('S', 'PGSTEER_1'),
          frontend.execute('p', 7),
          frontend.sync(),
        ]),
      ),
    ).toBe(true)
  })
})

/** One batch of answers with what the client is to get of it. */
interface Exchange {
  readonly entries: readonly Entry[]
  readonly from: Buffer
  readonly to: Buffer
}

const row = backend.dataRow(['x'.repeat(100), null])
const exchanges: readonly Exchange[] = [
  {
    entries: [FORWARD.query],
    from: Buffer.concat([row, row, backend.commandComplete('SELECT 2'), backend.readyForQuery()]),
    to: Buffer.concat([row, row, backend.commandComplete('SELECT 2'), backend.readyForQuery()]),
  },
  {
    entries: [SWALLOW.query, FORWARD.query],
    from: Buffer.concat([
      backend.commandComplete('BEGIN'),
      backend.readyForQuery('T'),
      row,
      backend.commandComplete('SELECT 1'),
      backend.readyForQuery(),
    ]),
    to: Buffer.concat([row, backend.commandComplete('SELECT 1'), backend.readyForQuery()]),
  },
  {
    entries: [
      SWALLOW.close,
      SWALLOW.parse,
      localEntry(() => backend.parseComplete(), null),
      FORWARD.bind,
      FORWARD.execute,
      localEntry(() => backend.closeComplete(), null),
      FORWARD.sync,
    ],
    from: Buffer.concat([
      backend.closeComplete(),
      backend.parseComplete(),
      backend.bindComplete(),
      row,
      backend.commandComplete('SELECT 1'),
      backend.readyForQuery(),
    ]),
    to: Buffer.concat([
      backend.parseComplete(),
      backend.bindComplete(),
      row,
      backend.commandComplete('SELECT 1'),
      backend.closeComplete(),
      backend.readyForQuery(),
    ]),
  },
  {
    entries: [SWALLOW.parse, FORWARD.bind, FORWARD.execute, FORWARD.sync],
    from: Buffer.concat([backend.errorResponse('42601', 'broken'), backend.readyForQuery()]),
    to: Buffer.concat([backend.errorResponse('42601', 'broken'), backend.readyForQuery()]),
  },
  {
    entries: [FORWARD.query],
    from: Buffer.concat([
      backend.noticeResponse('00000', 'n'.repeat(90)),
      backend.parameterStatus('TimeZone', 'UTC'),
      backend.notificationResponse(5, 'channel', 'payload'),
      backend.errorResponse('22012', 'division by zero'),
      backend.readyForQuery(),
    ]),
    to: Buffer.concat([
      backend.noticeResponse('00000', 'n'.repeat(90)),
      backend.notificationResponse(5, 'channel', 'payload'),
      backend.errorResponse('22012', 'division by zero'),
      backend.readyForQuery(),
    ]),
  },
]

describe('from the server to its client', () => {
  test.prop([fc.array(fc.constantFrom(...exchanges), { minLength: 1, maxLength: 8 }), cuts])(
    'any chunks give what the client is owed, and nothing of ours',
    (batches, places) => {
      const { server } = recordingServer()
      const sent: Buffer[] = []
      const relay = new Relay(
        {
          onComplete: () => null,
          onError: () => false,
          onReady: () => undefined,
          onReport: () => false,
          keepsEnd: () => false,
          mayRepeat: () => false,
          send: (bytes) => void sent.push(Buffer.from(bytes)),
        },
        { begin: () => undefined, fail: () => undefined },
      )
      for (const { entries } of batches) for (const entry of entries) server.ledger.push(entry)
      for (const chunk of chunksOf(Buffer.concat(batches.map(({ from }) => from)), places))
        relay.onBytes(chunk, server)
      expect(Buffer.concat(sent).equals(Buffer.concat(batches.map(({ to }) => to)))).toBe(true)
      expect(server.ledger.length).toBe(0)
      expect(relay.isMidMessage).toBe(false)
    },
  )

  test.prop([fc.uint8Array({ minLength: 1, maxLength: 400 }), cuts])(
    'no bytes make it throw anything but a ProxyError',
    (bytes, places) => {
      const { server } = recordingServer()
      server.ledger.push(FORWARD.query)
      const relay = new Relay(
        {
          onComplete: () => null,
          onError: () => false,
          onReady: () => undefined,
          onReport: () => false,
          keepsEnd: () => false,
          mayRepeat: () => false,
          send: () => undefined,
        },
        { begin: () => undefined, fail: () => undefined },
      )
      try {
        for (const chunk of chunksOf(Buffer.from(bytes), places)) relay.onBytes(chunk, server)
      } catch (error) {
        expect(error).toMatchObject({ code: 'server_protocol' })
      }
    },
  )
})

const prepared = (): SessionPrepared => new SessionPrepared(new PreparedRegistry())

describe('batches', () => {
  const limits = { batchBytesMax: 4096, frameBytesMax: 100_000, isRouted: true }

  test.prop([fc.array(message, { minLength: 1, maxLength: 6 })])(
    'a whole batch is read as soon as its last byte is there, and not before',
    (messages) => {
      const bytes = Buffer.concat([...messages, frontend.sync()])
      const reader = new BatchReader()
      const known = prepared()
      expect(reader.read(bytes, known, judge, limits)).toBe(true)
      const size = reader.bytes
      const found = { kind: reader.kind, texts: [...reader.texts], endsReady: reader.endsReady }
      for (let length = 0; length < size; length += 1)
        expect(reader.read(bytes.subarray(0, length), known, judge, limits)).toBe(false)
      expect(reader.read(bytes.subarray(0, size), known, judge, limits) || !found.endsReady).toBe(
        true,
      )
      expect(reader.read(bytes, known, judge, limits)).toBe(true)
      expect({ kind: reader.kind, texts: reader.texts, endsReady: reader.endsReady }).toEqual(found)
    },
  )

  plainTest('a batch beyond the limit is cut, and nobody knows what it may do', () => {
    const reader = new BatchReader()
    const big = frontend.query(`SELECT '${'x'.repeat(10_000)}'`)
    expect(reader.read(big.subarray(0, 5000), prepared(), judge, limits)).toBe(true)
    expect([reader.kind, reader.isWhole]).toEqual(['simple', false])
    expect(reader.classified.some(({ read }) => read)).toBe(false)
  })

  plainTest('a statement that is parsed and used in one batch is judged by its text', () => {
    const reader = new BatchReader()
    const bytes = Buffer.concat([
      frontend.parse('s', 'DELETE FROM t'),
      frontend.bind({ statement: 's' }),
      frontend.execute(),
      frontend.sync(),
    ])
    expect(reader.read(bytes, prepared(), judge, limits)).toBe(true)
    expect(reader.texts).toEqual(['DELETE FROM t'])
    expect(reader.classified.every(({ read }) => !read)).toBe(true)
  })
})
