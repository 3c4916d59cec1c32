/**
 * What one query costs a worker without the kernel: the real session, pool, forwarder, ledger and
 * relay between two channels that are not there. Run with `node bench/session.bench.ts [WORD]`; a
 * word chooses what to run. `node bench/session.bench.ts cpu [WORD]` prints nanoseconds of CPU time
 * per query instead, which a busy machine disturbs least.
 */
import { bench, do_not_optimize, run } from 'mitata'
import { systemClock } from '../src/base/clock.ts'
import { createLog } from '../src/base/log.ts'
import { Carriages } from '../src/client/carriages.ts'
import { ClientCounters } from '../src/client/counters.ts'
import { Session } from '../src/client/session.ts'
import type { Channel, Receiver } from '../src/net/channel.ts'
import { Statements } from '../src/routing/statements.ts'
import type { ServerChannel } from '../src/server/connection.ts'
import { Pools } from '../src/server/pools.ts'
import { PreparedRegistry } from '../src/server/prepared.ts'
import { NO_SETTINGS } from '../src/server/settings.ts'
import * as frame from '../src/wire/frame.ts'
import {
  BIND_COMPLETE_FRAME,
  fixed,
  PARSE_COMPLETE_FRAME,
  query,
  READY_IDLE,
  SYNC_FRAME,
} from '../src/wire/messages.ts'
import { configFrom } from '../test/support/config.ts'
import { plainIni } from '../test/support/pools.ts'

/** A channel whose peer is the bench. */
class Wire implements ServerChannel {
  readonly isClosed = false
  readonly isUnix = false
  readonly tls = null
  readonly unsentBytes = 0
  readonly remoteAddress = '127.0.0.1'
  readonly remotePort = 1
  readonly localAddress = '127.0.0.1'
  readonly localPort = 2
  bytesReceived = 0
  bytesSent = 0
  writes = 0
  receiver: Receiver | null = null

  attach(receiver: Receiver): void {
    this.receiver = receiver
  }
  write(bytes: Buffer): boolean {
    this.bytesSent += bytes.length
    this.writes += 1
    do_not_optimize(bytes)
    return true
  }
  pause(): void {}
  resume(): void {}
  close(): void {}
  destroy(): void {}
}

const CLIENTS = 4
const log = createLog({ level: 'silent', format: 'json' })
const config = configFrom(plainIni(`default_pool_size = ${CLIENTS}`))
const servers: Wire[] = []
const pools = new Pools({
  config,
  clock: systemClock,
  log,
  connect: () => {
    const channel = new Wire()
    servers.push(channel)
    const parameters = new Map([['client_encoding', 'UTF8']])
    return Promise.resolve({ channel, parameters, processId: 1, cancelSecret: Buffer.alloc(4) })
  },
  cancel: () => Promise.resolve(),
  onBusy: () => {},
  onSecretRefused: () => {},
})
const pool = pools.pool('app', 'alice', { kind: 'plain', password: 'x' })
const statements = new Statements(config.pgsteer.statementCacheMax)
const services = {
  clock: systemClock,
  log,
  pools,
  registry: new PreparedRegistry(),
  counters: new ClientCounters(),
  carriages: new Carriages(systemClock),
  config: () => config,
  statements: () => statements,
  onSessionClosed: () => {},
}

const clients = Array.from({ length: CLIENTS }, (_, index) => {
  const wire = new Wire()
  const session = new Session({
    id: index,
    // What a session asks of its channel is what a server does.
    channel: wire as unknown as Channel,
    user: 'alice',
    database: 'app',
    pool,
    baseline: NO_SETTINGS,
    welcome: new Map(),
    services,
  })
  session.begin()
  return { wire, session }
})

const ROW = Buffer.concat([
  fixed(frame.ROW_DESCRIPTION, Buffer.alloc(28, 1)),
  fixed(frame.DATA_ROW, Buffer.alloc(8, 1)),
  fixed(frame.COMMAND_COMPLETE, Buffer.from('SELECT 1\0')),
])
const SIMPLE_REPLY = Buffer.concat([ROW, READY_IDLE])
const EXTENDED_REPLY = Buffer.concat([PARSE_COMPLETE_FRAME, BIND_COMPLETE_FRAME, ROW, READY_IDLE])
const PREPARED_REPLY = Buffer.concat([BIND_COMPLETE_FRAME, ROW, READY_IDLE])

function text(): string {
  return `SELECT abalance FROM pgbench_accounts WHERE aid = ${Math.floor(Math.random() * 1e7)};`
}
const SAME = query(text())
const TEXTS = Array.from({ length: 50_000 }, () => query(text()))

function message(type: number, body: string): Buffer {
  return fixed(type, Buffer.from(body, 'latin1'))
}
const BIND_REST = '\0\0\0\x01\0\0\0\x0512345\0\0'
const RUN = [message(frame.DESCRIBE, 'P\0'), message(frame.EXECUTE, '\0\0\0\0\0'), SYNC_FRAME]
const SQL = 'SELECT abalance FROM pgbench_accounts WHERE aid = $1;'
const EXTENDED = Buffer.concat([
  message(frame.PARSE, `\0${SQL}\0\0\0`),
  message(frame.BIND, `\0\0${BIND_REST}`),
  ...RUN,
])
const PREPARED = Buffer.concat([message(frame.BIND, `\0P0\0${BIND_REST}`), ...RUN])

let turn = 0
let next = 0

/** One query of one client, answered. */
function roundTrip(request: Buffer, reply: Buffer): void {
  const client = clients[(turn += 1) % CLIENTS]
  client?.session.onBytes(request)
  const server = client?.session.server
  server?.onBytes(reply)
}

/** pgbench's transaction, with numbers that never came before. */
const TRANSACTIONS = Array.from({ length: 50_000 }, () => {
  const [account, teller, branch, delta] = [5e5, 50, 5, 1e4].map((max) =>
    Math.ceil(Math.random() * max),
  )
  return [
    `UPDATE pgbench_accounts SET abalance = abalance + ${delta} WHERE aid = ${account};`,
    `SELECT abalance FROM pgbench_accounts WHERE aid = ${account};`,
    `UPDATE pgbench_tellers SET tbalance = tbalance + ${delta} WHERE tid = ${teller};`,
    `UPDATE pgbench_branches SET bbalance = bbalance + ${delta} WHERE bid = ${branch};`,
    `INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (${teller}, ${branch}, ${account}, ${delta}, CURRENT_TIMESTAMP);`,
    'END;',
  ].map(query)
})
const BEGIN = query('BEGIN;')
const READY_OPEN = fixed(frame.READY_FOR_QUERY, Buffer.of(frame.STATUS_OPEN))
const done = (tag: string, ready: Buffer): Buffer =>
  Buffer.concat([fixed(frame.COMMAND_COMPLETE, Buffer.from(`${tag}\0`)), ready])
const UPDATED = done('UPDATE 1', READY_OPEN)
const TRANSACTION_REPLIES = [
  Buffer.concat([done('BEGIN', READY_OPEN), UPDATED]),
  Buffer.concat([ROW, READY_OPEN]),
  UPDATED,
  UPDATED,
  done('INSERT 0 1', READY_OPEN),
  done('COMMIT', READY_IDLE),
]

/** Seven queries of one client. */
function transaction(): void {
  const session = clients[(turn += 1) % CLIENTS]?.session
  const messages = TRANSACTIONS[(next += 1) % TRANSACTIONS.length] ?? []
  session?.onBytes(BEGIN)
  for (const [step, sent] of messages.entries()) {
    session?.onBytes(sent)
    session?.server?.onBytes(TRANSACTION_REPLIES[step] ?? UPDATED)
  }
}

const SHAPES: Readonly<Record<string, () => void>> = {
  'simple, the same text': () => roundTrip(SAME, SIMPLE_REPLY),
  'simple, always another text': () =>
    roundTrip(TEXTS[(next += 1) % TEXTS.length] ?? SAME, SIMPLE_REPLY),
  extended: () => roundTrip(EXTENDED, EXTENDED_REPLY),
  prepared: () => roundTrip(PREPARED, PREPARED_REPLY),
  'a transaction of seven': transaction,
}

/** Opens the servers and prepares P0 everywhere. */
async function warm(): Promise<void> {
  const prepare = Buffer.concat([message(frame.PARSE, `P0\0${SQL}\0\0\0`), SYNC_FRAME])
  for (const { session } of clients) session.onBytes(SAME)
  for (let step = 0; step < 100; step += 1) await Promise.resolve()
  for (const { session } of clients) session.server?.onBytes(SIMPLE_REPLY)
  for (let step = 0; step < CLIENTS * CLIENTS; step += 1)
    roundTrip(prepare, Buffer.concat([PARSE_COMPLETE_FRAME, READY_IDLE]))
}

await warm()
const [word = '', wanted = ''] = process.argv.slice(2)
if (word === 'cpu') measureCpu(wanted)
else {
  for (const [name, once] of Object.entries(SHAPES)) if (name.includes(word)) bench(name, once)
  await run()
}

function measureCpu(shape: string): void {
  const count = 50_000
  for (const [name, once] of Object.entries(SHAPES)) {
    if (!name.includes(shape)) continue
    const found: number[] = []
    for (let trial = 0; trial < 7; trial += 1) {
      const before = process.cpuUsage()
      for (let step = 0; step < count; step += 1) once()
      const { user, system } = process.cpuUsage(before)
      found.push(((user + system) * 1000) / count)
    }
    const best = Math.min(...found.slice(1))
    process.stdout.write(`${name}: ${best.toFixed(0)} ns (first ${found[0]?.toFixed(0)})\n`)
  }
}
