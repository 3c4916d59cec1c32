/**
 * A server's whole answer, cut anywhere and in every way in which a server ends: its client stays in
 * step with the protocol, is told nothing that is not true of the server's journal, keeps its
 * connection, and goes on. How bytes are cut into reads is drawn from a seed, which a failure names.
 */
import { expect } from 'vitest'
import { ProxyError } from '../../src/base/errors.ts'
import type { ServerConnection } from '../../src/server/connection.ts'
import { Chance } from '../simulation/chance.ts'
import { backend, frontend } from './bytes.ts'
import { ClientView, type Group } from './client-view.ts'
import { flush, routedIni, topology } from './pools.ts'
import { ScriptedPostgres } from './scripted.ts'
import { type Client, SessionWorld } from './session.ts'

const { bind, close, copyData, copyDone, describe, execute, parse, query, sync } = frontend
/** Ways that may cut anywhere, and those that begin with a whole message of the server. */
const ANYWHERE = ['eof', 'reset', 'fence'] as const
const FAREWELLS = {
  fatal_57P01: backend.errorResponse('57P01', 'terminating connection', 'FATAL'),
  fatal_57P02: backend.errorResponse('57P02', 'crash of another server process', 'FATAL'),
  notice_57P01: backend.noticeResponse('57P01', 'immediate shutdown', 'WARNING'),
  notice_57P02: backend.noticeResponse('57P02', 'crash of another server process', 'WARNING'),
}
type Way = (typeof ANYWHERE)[number] | keyof typeof FAREWELLS
const WAYS: readonly Way[] = [
  ...ANYWHERE,
  ...(Object.keys(FAREWELLS) as (keyof typeof FAREWELLS)[]),
]

interface Cut {
  readonly way: Way
  /** Bytes that the server says before its end. */
  readonly at: number
  readonly chance: Chance
}

const P = '/* pgsteer: primary */ '
const R = '/* pgsteer: replica */ '
const insert = (id: number): string => `${P}INSERT INTO t VALUES (${id})`
const extended = (sql: string): Buffer =>
  Buffer.concat([parse('', sql), bind(), describe('P'), execute(), sync()])
const simple = (...texts: readonly string[]): readonly Buffer[] => texts.map((sql) => query(sql))

/** What a client sends, each step when the one before it is answered. */
export const STEPS: Readonly<Record<string, readonly Buffer[]>> = {
  'a write': simple(insert(1)),
  'a write, extended': [extended(insert(1))],
  'a read of the primary': simple(`${P}SELECT a /* rows 3x20 */`),
  'a read of a replica': simple(`${R}SELECT a /* rows 3x20 */`),
  'a read of a replica, extended': [extended(`${R}SELECT a /* rows 2x20 */`)],
  'a read only transaction': simple('BEGIN READ ONLY', `${R}SELECT a`, `${R}SELECT b`, 'COMMIT'),
  'a transaction': simple('BEGIN', insert(1), insert(2), 'COMMIT', insert(3)),
  'a transaction, extended': ['BEGIN', insert(1), insert(2), 'COMMIT', insert(3)].map(extended),
  'a transaction taken back': simple('BEGIN READ WRITE', insert(1), 'ROLLBACK', insert(2)),
  'a transaction in one Query': simple(`${P}BEGIN; INSERT INTO t VALUES (1); COMMIT`, insert(2)),
  'several statements in one Query': simple(`${insert(1)}; ${insert(2)}; SELECT a`),
  'a transaction in a pipeline': [
    Buffer.concat(['BEGIN READ WRITE', insert(1), 'COMMIT', insert(2)].map(extended)),
  ],
  'Queries in a pipeline': [Buffer.concat(simple(insert(1), insert(2), `${P}SELECT a`, insert(3)))],
  'a transaction of Queries in a pipeline': [
    Buffer.concat(simple('BEGIN READ WRITE', insert(1), 'COMMIT', 'BEGIN', insert(2), 'ROLLBACK')),
  ],
  'two writes before one Sync': [
    Buffer.concat([parse('', insert(1)), bind(), execute(), extended(insert(2))]),
  ],
  'an error in a pipeline': [Buffer.concat([insert(1), `${P}SELECT 1/0`, insert(2)].map(extended))],
  'an error before a Sync': [
    Buffer.concat([parse('', insert(1)), bind(), execute(), extended(`${P}SELECT 1/0`)]),
  ],
  'a failed transaction': simple('BEGIN', insert(1), `${P}SELECT 1/0`, insert(2), 'COMMIT'),
  savepoints: simple(
    'BEGIN',
    insert(1),
    'SAVEPOINT s',
    `${P}SELECT 1/0`,
    'ROLLBACK TO s',
    insert(2),
    'COMMIT',
  ),
  'a prepared statement': [
    Buffer.concat([parse('mine', insert(1)), describe('S', 'mine'), sync()]),
    Buffer.concat([bind({ statement: 'mine' }), execute(), sync()]),
    Buffer.concat([close('S', 'mine'), extended(insert(2))]),
  ],
  'COPY FROM': [query(`${P}COPY t (1) FROM STDIN`), Buffer.concat([copyData('1\n'), copyDone()])],
  'COPY FROM in a transaction': [
    ...simple('BEGIN', `${P}COPY t (1) FROM STDIN`),
    Buffer.concat([copyData('1\n'), copyDone()]),
    query('COMMIT'),
  ],
  'COPY FROM, extended': [
    Buffer.concat([parse('', `${P}COPY t (1) FROM STDIN`), bind(), execute(), frontend.flush()]),
    Buffer.concat([copyData('1\n'), copyDone(), sync()]),
  ],
  'COPY TO': simple(`${P}COPY t TO STDOUT /* rows 3x30 */`),
  'rows of some size': simple(`${P}SELECT a /* rows 3x600 */`, insert(1)),
  DO: simple(`${P}DO $$(1)$$`),
  'CALL, extended': [extended(`${P}CALL p(1)`)],
  'CALL in a transaction': simple('BEGIN', `${P}CALL p(1)`, 'COMMIT'),
  'a function call': [frontend.functionCall(7, ['x'])],
  'PREPARE TRANSACTION': simple(
    'BEGIN',
    insert(1),
    "PREPARE TRANSACTION 'x'",
    `${P}COMMIT PREPARED '(2)'`,
  ),
  'COMMIT AND CHAIN': simple('BEGIN', insert(1), 'COMMIT AND CHAIN', insert(2), 'COMMIT'),
  'ROLLBACK AND CHAIN': simple('BEGIN', insert(1), 'ROLLBACK AND CHAIN', insert(2), 'COMMIT'),
  'ROLLBACK and BEGIN': simple('BEGIN', insert(1), 'ROLLBACK; BEGIN', insert(2), 'COMMIT'),
  'COMMIT and BEGIN': simple('BEGIN', insert(1), 'COMMIT; BEGIN', insert(2), 'COMMIT'),
}

/** One client's life with a server that ends, and with whatever comes after it. */
class Life {
  readonly world = new SessionWorld(routedIni('default_pool_size = 1'))
  readonly client: Client
  readonly view = new ClientView()
  readonly servers = new Map<ServerConnection, ScriptedPostgres>()
  readonly #cut: Cut
  #doomed: ServerConnection | null = null
  #told = 0
  isOver = false

  constructor(cut: Cut) {
    this.#cut = cut
    this.world.world.pools.setTopology(topology())
    this.client = this.world.client()
  }

  get doomed(): ScriptedPostgres | undefined {
    return this.#doomed === null ? undefined : this.servers.get(this.#doomed)
  }

  async send(bytes: Buffer): Promise<void> {
    const { chance } = this.#cut
    const tear = chance.is(0.3) ? chance.int(bytes.length) : 0
    for (const piece of [bytes.subarray(0, tear), bytes.subarray(tear)]) {
      if (piece.length === 0 || this.client.closed !== null) continue
      this.view.sent(piece)
      this.client.sends(Buffer.from(piece))
      await this.#answer()
    }
  }

  async #answer(): Promise<void> {
    for (let turn = 0; turn < 50; turn += 1) {
      await this.world.settle()
      this.view.got(this.client.take())
      const { server } = this.client.session
      if (server !== null) this.#meet(server)
      let isQuiet = true
      for (const [each, script] of this.servers) {
        const bytes = this.world.bytesTo(each)
        if (bytes.length === 0) continue
        isQuiet = false
        const answer = script.feed(bytes)
        if (each === this.#doomed) await this.#sayDoomed(each, script)
        else this.#say(each, answer)
      }
      if (isQuiet) return
    }
    throw new Error('it never ends')
  }

  #meet(server: ServerConnection): void {
    this.#doomed ??= server
    if (!this.servers.has(server)) this.servers.set(server, new ScriptedPostgres())
  }

  #say(server: ServerConnection, bytes: Buffer): void {
    const { chance } = this.#cut
    for (let at = 0; at < bytes.length; ) {
      const size = chance.is(0.5) ? bytes.length - at : 1 + chance.int(bytes.length - at)
      server.onBytes(Buffer.from(bytes.subarray(at, at + size)))
      at += size
    }
  }

  async #sayDoomed(server: ServerConnection, script: ScriptedPostgres): Promise<void> {
    const { at, chance } = this.#cut
    const upTo = Math.min(script.saidBytes, at)
    const bytes = Buffer.concat(script.said).subarray(this.#told, upTo)
    this.#told = upTo
    if (upTo < at || chance.is(0.5)) this.#say(server, bytes)
    else return await this.end(bytes)
    if (upTo === at) await this.end()
  }

  /** The first server ends, with these bytes in the same read as its farewell. */
  async end(before: Buffer = Buffer.alloc(0)): Promise<void> {
    const server = this.#doomed
    if (server === null || this.isOver) return
    this.isOver = true
    const { chance, way } = this.#cut
    const farewell = way in FAREWELLS ? FAREWELLS[way as keyof typeof FAREWELLS] : Buffer.alloc(0)
    const last = Buffer.concat([before, farewell])
    if (last.length > 0) server.onBytes(last)
    if (way === 'fence') server.destroy(new ProxyError('primary_lost', { reason: 'fenced' }))
    const channel = this.world.world.channelOf(server)
    channel.finish(...(way === 'reset' ? [new Error('read ECONNRESET')] : []))
    if (chance.is(0.5)) await flush()
    // A read whose server ended without a word is told when the others had the time for one.
    this.world.world.clock.advance(300)
  }

  /** What may have happened, by the journals; and what has. */
  mayHave(id: number): boolean {
    const at = this.doomed?.committedAt.get(id)
    const isCertain = this.#cut.way === 'fatal_57P01'
    if (at !== undefined && (!isCertain || at < this.#cut.at)) return true
    return this.#hasElsewhere(id)
  }

  has(id: number): boolean {
    const at = this.doomed?.committedAt.get(id)
    return (at !== undefined && at < this.#cut.at) || this.#hasElsewhere(id)
  }

  isDoubled(id: number): boolean {
    const at = this.doomed?.committedAt.get(id)
    return at !== undefined && this.mayHave(id) && this.#hasElsewhere(id)
  }

  #hasElsewhere(id: number): boolean {
    for (const [server, script] of this.servers)
      if (server !== this.#doomed && script.committedAt.has(id)) return true
    return false
  }
}

async function live(steps: readonly Buffer[], life: Life): Promise<void> {
  for (const step of steps) await life.send(step)
  if (life.client.closed !== null) return
  // Its server may end under the first of these, too.
  for (const id of [998, 999]) {
    if (id === 999 && !life.isOver) await life.end()
    if (life.view.status !== 'I') await life.send(query('ROLLBACK'))
    await life.send(query(insert(id)))
  }
}

/** What a client may conclude from what it was told. */
function judge(life: Life): void {
  const { view } = life
  expect(view.fatal).toBeNull()
  expect(life.client.closed).toBeNull()
  expect([view.owed, view.restBytes]).toEqual([0, 0])
  expect([view.groups.at(-1)?.tags, view.status]).toEqual([['INSERT 0 1'], 'I'])
  expect(life.has(999)).toBe(true)
  for (const [, script] of life.servers) {
    expect(script.unknown).toEqual([])
    if (script !== life.doomed) expect(script.restBytes).toBe(0)
  }
  let open: number[] = []
  for (const group of view.groups) {
    open.push(...group.ids)
    judgeGroup(life, group, open)
    const isNext = /CHAIN|; BEGIN/.test(group.texts.join())
    if (group.status === 'I' || isNext || group.sqlstate === '08007') open = []
    for (const id of group.ids) expect(life.isDoubled(id), `${id} twice`).toBe(false)
  }
}

function judgeGroup(life: Life, group: Group, open: readonly number[]): void {
  const said = `${group.texts.join()} ${group.types}${group.status} ${group.sqlstate}`
  const isLost = group.sqlstate === '40001' || group.sqlstate === '25P02'
  const isOwnError = group.sqlstate !== null && group.sqlstate !== '08007'
  const isTakenBack = isLost || (isOwnError && group.status === 'I')
  const isRolledBack = group.tags[0] === 'ROLLBACK' && !/ROLLBACK TO/.test(group.texts.join())
  if (isTakenBack || isRolledBack)
    for (const id of open) expect(life.mayHave(id), `${id} happened: ${said}`).toBe(false)
  else if (group.sqlstate === null && group.status === 'I')
    for (const id of open) expect(life.has(id), `${id} did not happen: ${said}`).toBe(true)
}

async function wholeAnswer(steps: readonly Buffer[], chance: Chance): Promise<ScriptedPostgres> {
  const life = new Life({ way: 'eof', at: Number.POSITIVE_INFINITY, chance })
  await live(steps, life)
  judge(life)
  const { doomed } = life
  if (doomed === undefined) throw new Error('nothing was asked')
  return doomed
}

/** Every byte, but of the inside of long messages only some. */
function positions({ ends, saidBytes }: ScriptedPostgres): number[] {
  const all = Array.from({ length: saidBytes + 1 }, (_, at) => at)
  const isNear = (at: number): boolean => ends.some((end) => Math.abs(end - at) < 12)
  return all.filter((at) => at % 97 === 0 || isNear(at))
}

/**
 * One life for each place in which the answer may be cut, or for every `stride`th that is not between
 * two messages; between messages one in each way, or in `waysMax` that are drawn.
 */
export async function cutAnywhere(
  steps: readonly Buffer[],
  { seed, stride, waysMax }: { seed: number; stride: number; waysMax: number },
): Promise<void> {
  const whole = await wholeAnswer(steps, new Chance(seed))
  for (const at of positions(whole)) {
    const chance = new Chance(seed + at)
    const isBoundary = at === 0 || whole.ends.includes(at)
    if (!isBoundary && (at + seed) % stride > 0) continue
    for (const way of drawn(isBoundary ? WAYS : ANYWHERE, isBoundary ? waysMax : 1, chance))
      await liveAndJudge(steps, { way, at, chance }, seed)
  }
}

async function liveAndJudge(steps: readonly Buffer[], cut: Cut, seed: number): Promise<void> {
  const life = new Life(cut)
  try {
    await live(steps, life)
    judge(life)
  } catch (error) {
    const told = life.view.groups.map(
      ({ types, sqlstate, status }) => `${types}${status} ${sqlstate}`,
    )
    const what = `seed ${seed}, ${cut.way} at ${cut.at}: ${String(error)}\n${told.join('\n')}`
    throw new Error(what, { cause: error })
  }
}

function drawn(ways: readonly Way[], waysMax: number, chance: Chance): readonly Way[] {
  const left = [...ways]
  while (left.length > waysMax) left.splice(chance.int(left.length), 1)
  return left
}
