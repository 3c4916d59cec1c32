/**
 * What is measured on its own: the steps of the hot path that a query goes through, each as a
 * function that does its work once. No socket, no clock.
 */
import { BatchReader, type Judge } from '../../src/client/batch.ts'
import { SessionPrepared } from '../../src/client/prepared.ts'
import { isPlainSelect } from '../../src/client/quick.ts'
import { Relay, type RelayOwner } from '../../src/client/relay.ts'
import { FORWARD } from '../../src/client/work.ts'
import { catalogueOf } from '../../src/routing/catalogue.ts'
import { classify } from '../../src/routing/classify.ts'
import { Latencies, shapeOfBytes } from '../../src/routing/latency.ts'
import { lex } from '../../src/routing/lexer.ts'
import { type RouteQuestion, routeBatch } from '../../src/routing/route.ts'
import { Statements } from '../../src/routing/statements.ts'
import type { ServerConnection } from '../../src/server/connection.ts'
import { PreparedRegistry } from '../../src/server/prepared.ts'
import * as frame from '../../src/wire/frame.ts'
import { type EntryKind, Ledger } from '../../src/wire/ledger.ts'
import {
  BIND_COMPLETE_FRAME,
  fixed,
  PARSE_COMPLETE_FRAME,
  query,
  READY_IDLE,
  SYNC_FRAME,
} from '../../src/wire/messages.ts'
import { FrameReader } from '../../src/wire/reader.ts'

/** Does its work once; what it returns is kept from being optimised away. */
export type Once = () => unknown

const TEXTS = {
  select: 'SELECT abalance FROM pgbench_accounts WHERE aid = 12345;',
  begin: 'BEGIN',
  update: 'UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 12345;',
  orm: `SELECT "posts"."id" AS t0_r0, "posts"."title" AS t0_r1, "comments"."id" AS t1_r0 FROM "posts"
    LEFT OUTER JOIN "comments" ON "comments"."post_id" = "posts"."id"
    WHERE "posts"."created_at" BETWEEN $1 AND $2 ORDER BY "posts"."created_at" DESC LIMIT 10`,
  report: `WITH r (no, total) AS (SELECT l_suppkey, sum(l_extendedprice * (1 - l_discount)) FROM lineitem
    WHERE l_shipdate >= date '1996-01-01' GROUP BY l_suppkey) SELECT s_suppkey, s_name, total,
    row_number() OVER (PARTITION BY s_name ORDER BY total) FROM supplier JOIN r ON s_suppkey = no
    WHERE total = (SELECT max(total) FROM r) AND lower(s_name) LIKE 'x%' ORDER BY s_suppkey LIMIT 100`,
} as const

const catalogue = catalogueOf({
  database: 'bench',
  serial: 1,
  volatileNames: ['nextval'],
  stableOrImmutableNames: ['count', 'sum', 'max', 'lower', 'coalesce', 'now', 'row_number'],
  userNames: [],
})
const statements = new Statements(1000)
statements.setCatalogue(catalogue)
const judge: Judge = {
  classify: (text) => statements.classify(text),
  judge: (bytes, start, end) => statements.judge(bytes, start, end),
}

function message(type: number, body: string): Buffer {
  return fixed(type, Buffer.from(body, 'latin1'))
}

const SIMPLE = query(TEXTS.select)
const EXTENDED = Buffer.concat([
  message(frame.PARSE, `\0${TEXTS.select}\0\0\0`),
  message(frame.BIND, '\0\0\0\0\0\x01\0\0\0\x0512345\0\0'),
  message(frame.DESCRIBE, 'P\0'),
  message(frame.EXECUTE, '\0\0\0\0\0'),
  SYNC_FRAME,
])
const ROWS = Buffer.concat(
  Array.from({ length: 100 }, () => fixed(frame.DATA_ROW, Buffer.alloc(30, 1))),
)

/** An answer with `rows`, and what is owed when it comes. */
function answer(rows: Buffer, kinds: readonly EntryKind[]): { bytes: Buffer; kinds: EntryKind[] } {
  const isExtended = kinds.length > 1
  const front = isExtended ? [PARSE_COMPLETE_FRAME, BIND_COMPLETE_FRAME] : []
  const bytes = Buffer.concat([
    ...front,
    fixed(frame.ROW_DESCRIPTION, Buffer.alloc(28, 1)),
    rows,
    message(frame.COMMAND_COMPLETE, 'SELECT 1\0'),
    READY_IDLE,
  ])
  return { bytes, kinds: [...kinds] }
}

const BATCH: readonly EntryKind[] = ['parse', 'bind', 'describe', 'execute', 'sync']
const ONE_ROW = fixed(frame.DATA_ROW, Buffer.alloc(8, 1))

/** A relay between a server that is its ledger alone and a client that takes everything. */
function relayed({ bytes, kinds }: { bytes: Buffer; kinds: readonly EntryKind[] }): Once {
  const ledger = new Ledger()
  const server = { ledger, status: 0 } as unknown as ServerConnection
  let sent = 0
  const owner: RelayOwner = {
    onComplete: () => null,
    onError: () => false,
    keepsEnd: () => false,
    mayRepeat: () => false,
    onReady: () => {},
    onReport: () => true,
    send: (piece) => {
      sent += piece.length
    },
  }
  const relay = new Relay(owner, { begin: () => {}, fail: () => {} })
  return () => {
    for (const kind of kinds) ledger.push(FORWARD[kind])
    relay.onBytes(bytes, server)
    return sent
  }
}

function framesOf(bytes: Buffer): Once {
  return () => {
    let offset = 0
    while (offset < bytes.length) offset += frame.frameBytes(bytes, offset)
    return offset
  }
}

function namesOfBind(): Once {
  const reader = new FrameReader()
  const bytes = message(frame.BIND, 'portal_of_7\0PGSTEER_123456\0\0\0\0\0\0\0')
  return () => {
    reader.begin(bytes, frame.HEADER_BYTES, bytes.length)
    const portal = reader.cstring()
    return reader.cstring().length + portal.length + reader.int16()
  }
}

/** Books `kinds` and takes them again. */
function booked(kinds: readonly EntryKind[]): Once {
  const ledger = new Ledger()
  return () => {
    for (const kind of kinds) ledger.push(FORWARD[kind])
    let taken = 0
    while (ledger.length > 0) if (ledger.take().forward) taken += 1
    return taken
  }
}

function batchOf(bytes: Buffer): Once {
  const reader = new BatchReader()
  const prepared = new SessionPrepared(new PreparedRegistry())
  const limits = { batchBytesMax: 65_536, frameBytesMax: 1_000_000, isRouted: true }
  return () => reader.read(bytes, prepared, judge, limits)
}

function routed(text: string): Once {
  const question: RouteQuestion = {
    classified: [classify(text, catalogue)],
    sessionRoute: 'split',
    inTransaction: 'no',
    pinned: false,
    defaultReadOnly: false,
    standardStrings: true,
    asciiSafeEncoding: true,
    readTransactions: 'primary',
  }
  return () => routeBatch(question)
}

function shaped(text: string): Once {
  const bytes = Buffer.from(text, 'latin1')
  return () => shapeOfBytes(bytes, 0, bytes.length)
}

function learnt(): Once {
  const latencies = new Latencies()
  let shape = 0
  return () => {
    shape = (shape + 7919) & 0xffff
    latencies.observe(shape, 0.25)
    return latencies.expectedMs(shape)
  }
}

function plain(text: string): Once {
  const bytes = Buffer.from(`${text}\0`, 'latin1')
  return () => isPlainSelect(bytes, 0, bytes.length)
}

function cached(text: string): Once {
  statements.classify(text)
  const bytes = Buffer.from(text, 'latin1')
  return () => statements.classify(bytes.toString('latin1'))
}

/** A text whose constants are others than those of the texts before it. */
function alike(text: string): Once {
  const bytes = Buffer.from(`${text}\0`, 'latin1')
  for (let sight = 0; sight < 2; sight += 1) statements.judge(bytes, 0, bytes.length)
  return () => statements.judge(bytes, 0, bytes.length)
}

/** By name; each makes what it needs when it is called. */
export const CASES: Readonly<Record<string, () => Once>> = {
  'scanner: 100 rows': () => framesOf(ROWS),
  'scanner: the names of a Bind': namesOfBind,
  'scanner: a simple batch': () => batchOf(SIMPLE),
  'scanner: an extended batch': () => batchOf(EXTENDED),
  'relay: one row, simple': () => relayed(answer(ONE_ROW, ['query'])),
  'relay: one row, extended': () => relayed(answer(ONE_ROW, BATCH)),
  'relay: 100 rows': () => relayed(answer(ROWS, ['query'])),
  'ledger: a Query': () => booked(['query']),
  'ledger: a batch': () => booked(BATCH),
  'classify: select, cached': () => cached(TEXTS.select),
  'classify: update, alike': () => alike(TEXTS.update),
  'classify: orm, alike': () => alike(TEXTS.orm),
  'classify: select': () => () => classify(TEXTS.select, catalogue),
  'classify: begin': () => () => classify(TEXTS.begin, catalogue),
  'classify: update': () => () => classify(TEXTS.update, catalogue),
  'classify: orm': () => () => classify(TEXTS.orm, catalogue),
  'classify: report': () => () => classify(TEXTS.report, catalogue),
  'classify: tokens of report': () => () => lex(TEXTS.report),
  'route: a read': () => routed(TEXTS.select),
  'route: a write': () => routed(TEXTS.update),
  'quick: select': () => plain(TEXTS.select),
  'latency: shape of select': () => shaped(TEXTS.select),
  'latency: shape of orm': () => shaped(TEXTS.orm),
  'latency: learn and ask': learnt,
}

const WORDS = new Map(Array.from({ length: 64 }, (_, index) => [`word${index}`, index]))
const NAMES = [...WORDS.keys()]
const REFERENCE_BYTES = Buffer.from(TEXTS.orm, 'latin1')

/**
 * What the cases are compared with: a walk over bytes, a look-up and a small object, as the hot path
 * is made of. It must stay as it is, or the baseline be measured anew.
 */
export function reference(): Once {
  let turn = 0
  return () => {
    let hash = 0
    for (const byte of REFERENCE_BYTES.subarray(0, 64)) hash = Math.imul(hash ^ byte, 31)
    turn = (turn + 1) & 63
    const word = NAMES[turn] ?? ''
    return { hash, found: WORDS.get(word) }
  }
}
