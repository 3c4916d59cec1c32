/**
 * Many clients on few servers, with everything that can go wrong at random: whatever happens, each
 * gets its own answers, in order and once, and what is written is written once. And no moment in which
 * a client waits for an answer is counted twice.
 *
 *   RIDE_SEED=123 npx vitest run --project unit test/unit/client/ride-model.test.ts
 */
import { expect, test } from 'vitest'
import type { DatabaseStats } from '../../../src/client/facts.ts'
import type { ServerConnection } from '../../../src/server/connection.ts'
import { Chance } from '../../simulation/chance.ts'
import { backend, errorFields, frames, frontend } from '../../support/bytes.ts'
import { NonceServer } from '../../support/nonce-server.ts'
import { learn, riderIni, textOf, turn } from '../../support/riders.ts'
import { type Client, SessionWorld } from '../../support/session.ts'

const CLIENTS = 9
const STEPS = 400
const NAMED = 'SELECT nonce FROM t WHERE id = $1'

interface Unit {
  readonly nonce: number
  readonly fails: boolean
  readonly isWrite: boolean
  readonly isParse: boolean
}

class Member {
  readonly server: ServerConnection
  readonly postgres: NonceServer
  out: Buffer = Buffer.alloc(0)
  /** What it has said of a message that is not whole. */
  rest: Buffer = Buffer.alloc(0)

  constructor(server: ServerConnection, written: Map<number, number>) {
    this.server = server
    this.postgres = new NonceServer(written)
  }
}

class Player {
  readonly client: Client
  readonly owed: Unit[] = []
  isNamed = false
  /** Its name may not have been given. */
  isNameDoubted = false
  isCancelled = false
  isGone = false
  answered = 0
  #rest: Buffer = Buffer.alloc(0)
  #rows: string[] = []
  #error: string | null = null

  constructor(client: Client) {
    this.client = client
  }

  /** Reads what came; returns what is wrong with it. */
  read(mayBeLost: boolean): string[] {
    const wrong: string[] = []
    const { frames: found, rest } = frames(Buffer.concat([this.#rest, this.client.take()]))
    this.#rest = rest
    for (const { body, type } of found) {
      if (type === 'D') this.#rows.push(/nonce \d+/.exec(body.toString('latin1'))?.[0] ?? '?')
      if (type === 'E') this.#error = errorFields(body)['C'] ?? '?'
      if (type !== 'Z') continue
      const unit = this.owed.shift()
      wrong.push(...this.#judge(unit, mayBeLost))
      this.#rows = []
      this.#error = null
      this.answered += 1
    }
    return wrong
  }

  #judge(unit: Unit | undefined, mayBeLost: boolean): string[] {
    if (unit === undefined) return ['an answer that nobody asked for']
    const error = this.#error
    if (unit.isParse && error !== null) {
      this.isNamed = false
      this.isNameDoubted = true
    }
    if (error === '57014') {
      const isAsked = this.isCancelled
      this.isCancelled = false
      return isAsked ? [] : ['cancelled, though it had not asked']
    }
    if (error === '40001' || error === '08007') return mayBeLost ? [] : [`${error} of nothing`]
    if (unit.fails) return error === '22012' || error === '42601' ? [] : [`no error, but ${error}`]
    if (this.isNameDoubted && (error === '26000' || error === '42P05')) return []
    if (error !== null) return [`an error ${error} for nonce ${unit.nonce}`]
    const expected = unit.isWrite && this.#rows.length === 0 ? [] : [`nonce ${unit.nonce}`]
    return this.#rows.join() === expected.join() ? [] : [`${this.#rows.join()} for ${unit.nonce}`]
  }
}

class Game {
  readonly chance: Chance
  readonly world = new SessionWorld(riderIni())
  readonly players: Player[] = []
  readonly written = new Map<number, number>()
  readonly wrong: string[] = []
  /** Time in which clients waited for answers, all of them together. */
  owingMs = 0
  #answers = 0
  #members: Member[] = []
  #nonce = 0
  #lostServers = 0

  constructor(seed: number) {
    this.chance = new Chance(seed)
    for (const text of [textOf(1), NAMED, 'SELECT nonce FROM w WHERE id = 1'])
      learn(this.world, text)
    for (let index = 0; index < CLIENTS; index += 1)
      this.players.push(new Player(this.world.client()))
  }

  async play(): Promise<void> {
    for (let step = 0; step < STEPS; step += 1) await this.#step()
    for (let round = 0; round < 400 && this.#isBusy(); round += 1) {
      await this.#serve(true)
      await this.#pass(10)
    }
    for (const { client, isGone, owed } of this.players)
      if (!isGone && owed.length > 0 && client.closed !== 'session_lost')
        this.wrong.push(`${owed.length} never answered: ${client.session.state} ${client.closed}`)
    for (const [nonce, times] of this.written)
      if (times > 1) this.wrong.push(`nonce ${nonce} was written ${times} times`)
    this.#judgeCounts()
  }

  /** Time that is counted, as a wait or as the time of a query. */
  get countedMs(): number {
    const { queryMs, waitMs } = this.#stats
    return queryMs + waitMs
  }

  get #stats(): DatabaseStats {
    return this.world.counters.stats('app')
  }

  #judgeCounts(): void {
    const { queries, queryMs, transactions, transactionMs } = this.#stats
    if (queries > this.#answers) this.wrong.push(`${queries} queries, ${this.#answers} answers`)
    // Each is a transaction of its own.
    if (transactions !== queries || transactionMs !== queryMs)
      this.wrong.push(`${transactions} transactions of ${queries} queries`)
    if (this.countedMs > this.owingMs)
      this.wrong.push(`${this.countedMs} ms counted of ${this.owingMs}`)
  }

  async #pass(ms: number): Promise<void> {
    const waiting = this.players.filter(
      ({ client, owed }) => client.closed === null && owed.length > 0,
    )
    this.owingMs += waiting.length * ms
    await this.world.world.pass(ms)
  }

  #isBusy(): boolean {
    return this.players.some(
      ({ client, isGone, owed }) => !isGone && owed.length > 0 && client.closed === null,
    )
  }

  async #step(): Promise<void> {
    const player = this.chance.of(this.players)
    const kind = this.chance.weighted({
      send: 40,
      serve: 50,
      cancel: 2,
      leave: 1,
      lose: 1,
      wait: 14,
    })
    if (
      kind === 'send' &&
      !player.isGone &&
      player.client.closed === null &&
      player.owed.length < 2
    )
      this.#send(player)
    if (kind === 'cancel' && !player.isGone && player.owed.length === 1) {
      player.isCancelled = true
      void player.client.session.cancel()
    }
    if (kind === 'leave') this.#replace(player)
    if (kind === 'lose') await this.#lose()
    if (kind === 'wait') await this.#pass(10)
    await this.#serve(false)
  }

  #send(player: Player): void {
    this.#nonce += 1
    const nonce = this.#nonce
    const kind = this.chance.weighted({
      simple: 5,
      unnamed: 3,
      named: 5,
      bad: 1,
      hidden: 1,
      write: 1,
    })
    const { client } = player
    const isParse = kind === 'named' && !player.isNamed
    player.owed.push({
      nonce,
      fails: kind === 'bad',
      isWrite: kind === 'hidden' || kind === 'write',
      isParse,
    })
    if (kind === 'simple') client.sends(frontend.query(textOf(nonce)))
    if (kind === 'write') client.sends(frontend.query(`INSERT INTO t VALUES (${nonce})`))
    if (kind === 'hidden') client.sends(frontend.query(`SELECT nonce FROM w WHERE id = ${nonce}`))
    const run = [frontend.execute(), frontend.sync()]
    if (kind === 'unnamed') client.sends(frontend.parse('', textOf(nonce)), frontend.bind(), ...run)
    if (kind === 'bad')
      client.sends(frontend.parse('', 'SELECT nonce FROM t WHERE id = 0'), frontend.bind(), ...run)
    if (kind !== 'named') return
    const bind = frontend.bind({ statement: 'n', values: [String(nonce)] })
    if (player.isNamed) client.sends(bind, ...run)
    else client.sends(frontend.parse('n', NAMED), bind, ...run)
    player.isNamed = true
  }

  #replace(player: Player): void {
    player.client.session.onClosed()
    player.isGone = true
    this.players[this.players.indexOf(player)] = new Player(this.world.client())
  }

  async #lose(): Promise<void> {
    const [member] = this.#members
    if (member === undefined || this.chance.is(0.5)) return
    this.#lostServers += 1
    if (member.rest.length === 0 && this.chance.is(0.7))
      member.server.onBytes(backend.errorResponse('57P01', 'terminating', 'FATAL'))
    this.world.world.channelOf(member.server).finish()
    await this.world.world.pass(0)
  }

  async #serve(isAll: boolean): Promise<void> {
    await this.world.settle()
    await turn()
    this.#find()
    for (const member of this.#members) {
      member.postgres.take(this.world.bytesTo(member.server))
      const looks = isAll ? member.postgres.waiting : this.chance.int(4)
      for (let look = 0; look < looks; look += 1)
        member.out = Buffer.concat([member.out, member.postgres.step()])
      const bytes = isAll ? member.out.length : this.chance.int(member.out.length + 1)
      const chunk = member.out.subarray(0, bytes)
      member.out = member.out.subarray(bytes)
      member.rest = frames(Buffer.concat([member.rest, chunk])).rest
      if (chunk.length > 0) member.server.onBytes(Buffer.from(chunk))
    }
    for (const cancel of this.world.world.cancels.splice(0)) cancel.end()
    for (const player of this.players) {
      if (player.isGone) continue
      const before = player.answered
      this.wrong.push(...player.read(this.#lostServers > 0))
      this.#answers += player.answered - before
    }
  }

  #find(): void {
    this.#members = this.#members.filter(({ server }) => server.state !== 'closed')
    for (const pool of [this.world.world.pool()])
      for (const server of pool.fleet.servers())
        if (!this.#members.some((member) => member.server === server))
          this.#members.push(new Member(server, this.written))
  }
}

const seed = Number(process.env['RIDE_SEED'] ?? 20_261_123)

test(`whatever happens, each client gets its own answers (seed ${seed})`, {
  timeout: 60_000,
}, async () => {
  let rides = 0
  let moved = 0
  let owingMs = 0
  let countedMs = 0
  for (let run = 0; run < 40; run += 1) {
    const game = new Game(seed + run)
    await game.play()
    expect(game.wrong, `seed ${seed + run}`).toEqual([])
    rides += game.world.counters.rides
    moved += game.world.counters.ridesMoved
    owingMs += game.owingMs
    countedMs += game.countedMs
  }
  expect(rides).toBeGreaterThan(400)
  expect(moved).toBeGreaterThan(10)
  // What is told for a server that was lost, or is cancelled while it waits, is counted nowhere.
  expect(countedMs).toBeGreaterThan(0.98 * owingMs)
})
