/**
 * What must be true of clients of pgsteer after the cluster behind it has failed over: one writer at
 * a time, nothing acknowledged lost or doubled, errors only for what was in flight.
 */
import type { Client } from 'pg'
import { expect } from 'vitest'
import type { PatroniCluster } from '../support/patroni.ts'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { ask, sight } from './steer-cluster.ts'
import { insert, type Load, portOf } from './steer-load.ts'

/** From the moment in which a direct client's write is acknowledged to one through pgsteer. */
export const RESUME_MS_MAX = 2000
/** What was sent just before the primary was lost may fail; what was sent later may not. */
const NOTICE_MS = 500
/** A read never waits for an election. */
const READ_MS_MAX = 3000

/** One pgsteer under load in front of one cluster. */
export interface Scene {
  readonly cluster: PatroniCluster
  readonly steer: Steer
  readonly load: Load
  /** Port of the primary when the load began. */
  readonly primary: number
}

/** Settings of their own, so that one sees whether they follow. */
export async function equip(clients: readonly Client[], prefix: string): Promise<void> {
  for (const [index, client] of clients.entries()) {
    await client.query(`set statement_timeout = '${77 + index}s'`)
    await insert(client, `${prefix}-before-${index}`)
    await portOf(client)
  }
}

/** Clients that were idle: their connections live, their settings too, their next statement works. */
export async function expectUnharmed(
  clients: readonly Client[],
  prefix: string,
  primary: number,
): Promise<void> {
  for (const [index, client] of clients.entries()) {
    const shown = await client.query<{ statement_timeout: string }>('show statement_timeout')
    expect(shown.rows[0]?.statement_timeout).toBe(`${77 + index}s`)
    expect(await insert(client, `${prefix}-after-${index}`)).toBe(primary)
    expect(await portOf(client)).toBeGreaterThan(0)
  }
}

/** When another member than `before` first acknowledged a direct client's write, and which. */
export function successor(
  cluster: PatroniCluster,
  before: number | null,
): Promise<{ port: number; atMs: number }> {
  const others = cluster.members.filter((member) => member.port !== before)
  const sql = "insert into written (id) values ('direct') returning port"
  const attempt = async (name: string, port: number) => {
    await ask(cluster, name, sql)
    return { port, atMs: performance.now() }
  }
  return waitFor(
    'a member that takes writes',
    () => Promise.any(others.map(({ name, port }) => attempt(name, port))),
    { withinMs: 120_000, everyMs: 20 },
  )
}

/** On the primary: what was acknowledged is there once, and nothing is there twice. */
export async function expectExactlyOnce({ cluster, load }: Scene, primary: number): Promise<void> {
  const member = cluster.members.find(({ port }) => port === primary)
  const sql = `select id, port, count(*)::int as times from written where id <> 'direct' group by 1, 2`
  const rows = await ask(cluster, member?.name ?? '', sql)
  const written = new Map(rows.map((row) => [row['id'], row]))
  const doubled = rows.filter((row) => row['times'] !== 1)
  expect(doubled, 'doubled').toEqual([])
  expect(written.size, 'an id written on two members').toBe(rows.length)
  const lost = load.acknowledged.filter(({ id, port }) => written.get(id)?.['port'] !== port)
  expect(lost, 'acknowledged and lost').toEqual([])
  expect(load.unseen, 'not seen by the session that wrote it').toEqual([])
}

/** Only what was in flight when the primary was lost failed, and no log-in did. */
export function expectErrorsOnlyInFlight(load: Load, lostMs: number): void {
  const late = load.failed.filter((write) => write.startedMs > lostMs + NOTICE_MS)
  expect(late, 'writes that failed though they were sent later').toEqual([])
  const clients = load.failed.map((write) => write.client)
  expect(new Set(clients).size, 'clients with more than one error').toBe(clients.length)
  expect(load.refused, 'refused log-ins').toEqual([])
}

/** Writes were acknowledged by the one member, then by the other, never by both in turns. */
export function expectOneWriter(load: Load, before: number, after: number): void {
  const ports = load.acknowledged.toSorted((a, b) => a.endedMs - b.endedMs).map(({ port }) => port)
  const turns = ports.filter((port, index) => index === 0 || port !== ports[index - 1])
  expect(turns).toEqual(before === after ? [before] : [before, after])
}

/** While there was no primary, replicas served. A read may have been in flight on the lost one. */
export function expectReadsWentOn(load: Load, fromMs: number, toMs: number): void {
  const during = load.reads.filter((read) => read.endedMs > fromMs && read.startedMs < toMs)
  const failed = during.filter((read) => read.error !== '' && read.startedMs > fromMs + NOTICE_MS)
  expect(failed, 'reads that failed').toEqual([])
  const slow = during.filter((read) => read.endedMs - read.startedMs > READ_MS_MAX)
  expect(slow, 'reads that waited').toEqual([])
  expect(during.length).toBeGreaterThan(10)
}

/**
 * Waits until another member leads and judges what came until then.
 *
 * Returns the port of the new primary.
 */
export async function expectFailedOver(
  scene: Scene,
  lostMs: () => number = () => lastOf(scene),
): Promise<number> {
  const { cluster, steer, load, primary } = scene
  const { port, atMs } = await successor(cluster, primary)
  await load.resumed(atMs)
  const first = load.acknowledged.find((write) => write.port === port)
  const delayMs = (first?.endedMs ?? Number.POSITIVE_INFINITY) - atMs
  expect(delayMs, 'resumed after a direct client').toBeLessThan(RESUME_MS_MAX)
  expect(await primaryPort(steer)).toBe(port)
  expectOneWriter(load, primary, port)
  expectErrorsOnlyInFlight(load, lostMs())
  expectReadsWentOn(load, lostMs(), atMs)
  const held = load.acknowledged.filter((w) => w.startedMs < atMs && w.port === port)
  expect(held.length, 'writes that were held and done').toBeGreaterThan(0)
  return port
}

/** A planned switchover is not felt before its last write was acknowledged. */
function lastOf({ load, primary }: Scene): number {
  return load.acknowledged.findLast((write) => write.port === primary)?.endedMs ?? 0
}

async function primaryPort(steer: Steer): Promise<number | undefined> {
  const { primary, members } = await sight(steer)
  return members.find((member) => member.name === primary)?.port
}
