/**
 * Sessions that share a server: one pool that is full, reads that are known to be quick, and a carriage
 * that has just opened to those who waited.
 */
import { shapeOfText } from '../../src/routing/latency.ts'
import type { ServerConnection } from '../../src/server/connection.ts'
import { backend, frontend } from './bytes.ts'
import { plainIni } from './pools.ts'
import { type Client, SessionWorld } from './session.ts'

export const OPENED = Buffer.concat([backend.commandComplete('SET'), backend.readyForQuery()])
export const CLOSED = Buffer.concat([backend.commandComplete('RESET'), backend.readyForQuery()])

/** The read of one client; all of them are of one shape. */
export function textOf(nonce: number): string {
  return `SELECT nonce FROM t WHERE id = ${nonce}`
}

export function answerOf(nonce: number | string, status: 'I' | 'T' | 'E' = 'I'): Buffer {
  return Buffer.concat([
    backend.rowDescription([{ name: 'nonce' }]),
    backend.dataRow([`nonce ${nonce}`]),
    backend.commandComplete('SELECT 1'),
    backend.readyForQuery(status),
  ])
}

export function learn(world: SessionWorld, text: string, ms = 1): void {
  for (let time = 0; time < 4; time += 1) world.statements.latencies.observe(shapeOfText(text), ms)
}

/** Bytes that are gathered in this turn are sent at its end. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}

export interface Riders {
  readonly world: SessionWorld
  /** Shared by the riders. */
  readonly server: ServerConnection
  /** Held by `busy`, who is in a transaction; of a pool of two. */
  readonly other: ServerConnection
  readonly busy: Client
  readonly riders: readonly Client[]
}

export function riderIni(pgbouncer = '', pgsteer = ''): string {
  return `${plainIni(pgbouncer)}[pgsteer]\nmultiplex_reads = auto\n${pgsteer}`
}

export interface RidersOptions {
  readonly ini?: string
  /** What each of them sends; else the text of its number, from 1 on. */
  readonly messages?: readonly (readonly Buffer[])[]
}

/** `count` clients whose reads are on one server, not answered yet; what was written is taken. */
export async function riding(count: number, options: RidersOptions = {}): Promise<Riders> {
  const world = new SessionWorld(options.ini ?? riderIni())
  learn(world, textOf(1))
  const [busy, first] = [world.client(), world.client()]
  busy.sends(frontend.query('INSERT INTO t VALUES (1)'))
  first.sends(frontend.query(textOf(0)))
  await world.settle()
  const { server } = first
  const { server: other } = busy
  const riders: Client[] = []
  for (let nonce = 1; nonce <= count; nonce += 1) {
    const rider = world.client()
    rider.sends(...(options.messages?.[nonce - 1] ?? [frontend.query(textOf(nonce))]))
    riders.push(rider)
  }
  // Two have to wait for a server to be shared; the second of one goes.
  const second = count === 1 ? world.client() : null
  second?.sends(frontend.query(textOf(0)))
  world.bytesTo(server)
  world.bytesTo(other)
  server.onBytes(answerOf(0))
  await turn()
  if (!world.bytesTo(server).includes('default_transaction_read_only TO on'))
    throw new Error('no carriage was opened')
  second?.session.onClosed()
  server.onBytes(OPENED)
  await turn()
  return { world, server, other, busy, riders }
}
