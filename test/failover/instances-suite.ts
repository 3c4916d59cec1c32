/**
 * Two instances of pgsteer in front of one PostgreSQL, with a real etcd in which Patroni's keys are
 * written by hand; and what tests of cancel requests between them need.
 */
import { createServer, type Server, type Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, expect } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { PatroniCluster, SCOPE } from '../support/patroni.ts'
import { type SharedCluster, useCluster } from '../support/postgres.ts'
import { freePort, Steer, type SteerOptions } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

export const PREFIX = `/pgsteer/service/${SCOPE}/instances/`
/** A lease runs out 8 s after the last renewal, and etcd looks for those that did twice a second. */
export const EXPIRY = { withinMs: 30_000, everyMs: 50 }
/** What an instance may take to notice, and to tell its workers. */
export const NOTICE = { withinMs: 20_000, everyMs: 20 }

export interface Sight {
  readonly primary: string | null
  readonly instance: number
  readonly instances: readonly {
    readonly id: number
    readonly host: string
    readonly port: number
    readonly isSelf: boolean
  }[]
}

export interface Key {
  readonly name: string
  readonly value: string
  readonly lease: string
}

/** A port that takes connections, keeps them, and knows what was said on them. */
export interface SilentPeer {
  readonly port: number
  readonly heard: Buffer[]
  readonly sockets: Set<Socket>
}

export class Instances {
  readonly #shared: SharedCluster
  readonly store: PatroniCluster
  #one: Steer | null = null
  #other: Steer | null = null
  /** Ended after each test. */
  stack = new AsyncDisposableStack()

  constructor(shared: SharedCluster, store: PatroniCluster) {
    this.#shared = shared
    this.store = store
  }

  /** It has two workers. */
  get one(): Steer {
    if (this.#one === null) throw new Error('it is started in beforeAll')
    return this.#one
  }

  /** Its pools, those for peers as well, have three connections. */
  get other(): Steer {
    if (this.#other === null) throw new Error('it is started in beforeAll')
    return this.#other
  }

  async begin(): Promise<void> {
    this.store.startEtcd('etcd1')
    await this.bootstrap()
    this.#one = await this.start({ pgsteer: { workers: 2 }, mayRestart: true })
    this.#other = await this.start({ pgbouncer: { default_pool_size: 3 } })
    await acquainted([this.one, this.other])
  }

  async endTest(): Promise<void> {
    await this.stack.disposeAsync()
    this.stack = new AsyncDisposableStack()
  }

  async end(): Promise<void> {
    await this.#one?.stop()
    await this.#other?.stop()
    await this.store.stop()
  }

  /** What Patroni would have written, into this etcd or another one. */
  async bootstrap(at = this.store): Promise<void> {
    const { host, port } = this.#shared.cluster.primary
    const user = 'postgres'
    const client = await WireClient.login({ host, port, user, database: user, password: user })
    const sql = 'select system_identifier::text from pg_control_system()'
    const identifier = (await client.query(sql)).rows[0]?.[0] ?? ''
    await client.close()
    const url = `postgres://${host}:${port}/postgres`
    const keys = {
      initialize: identifier,
      config: JSON.stringify({ ttl: 30, loop_wait: 10 }),
      'members/pg1': JSON.stringify({ conn_url: url, state: 'running', role: 'primary' }),
      leader: 'pg1',
    }
    for (const [name, value] of Object.entries(keys))
      await waitFor(`the key ${name}`, () => at.put(at.etcds[0], name, value), EXPIRY)
  }

  start(options: SteerOptions = {}, at = this.store): Promise<Steer> {
    const { members } = this.#shared.cluster
    return Steer.start({ members }, this.with(options, at))
  }

  /** What such an instance is configured with. */
  with(options: SteerOptions, at = this.store): SteerOptions {
    const cluster = { source: 'etcd', scope: SCOPE, etcd_hosts: at.etcdHosts.join(', ') }
    return { ...options, cluster: { ...cluster, ...options.cluster } }
  }

  /** For one test only. */
  async newcomer(options: SteerOptions = {}, at = this.store): Promise<Steer> {
    const steer = await this.start(options, at)
    this.stack.defer(() => steer.stop())
    return steer
  }

  async wire(steer: Steer, minor = 0): Promise<WireClient> {
    const client = await steer.wire({ minor })
    this.stack.defer(() => client.destroy())
    return client
  }

  /** A statement that runs until it is cancelled, once it runs. */
  async running(client: WireClient, mark: string): Promise<void> {
    client.send(frontend.query(sleep(mark)))
    await waitFor('the query runs', () => this.runs(mark))
  }

  async runs(mark: string): Promise<boolean> {
    const look = await this.one.connect()
    const sql = `/* pgsteer: primary */ select from pg_stat_activity
      where state = 'active' and query like '%), ''${mark}''%' and pid <> pg_backend_pid()`
    const { rowCount } = await look.query(sql)
    await look.end()
    return (rowCount ?? 0) > 0
  }

  /** Cancels a statement of `home` through `away`, and nothing else. */
  async expectCancelled(home: Steer, away: Steer, client?: WireClient): Promise<void> {
    const victim = client ?? (await this.wire(home))
    await this.running(victim, 'victim')
    await cancel(away, victim.processId, victim.key)
    const { sqlstate } = await victim.ready()
    const { rows } = await victim.query('select 1')
    expect([sqlstate, rows]).toEqual(['57014', [['1']]])
  }

  /** The lease that the key of that instance hangs on. */
  async leaseOf(number: number): Promise<string | undefined> {
    return (await this.keysUnder(PREFIX)).find(({ name }) => name === `${PREFIX}${number}`)?.lease
  }

  async untilOtherLease(number: number, before: string | undefined): Promise<void> {
    const isOther = async (): Promise<boolean> =>
      ((await this.leaseOf(number)) ?? before) !== before
    await waitFor('its key on another lease', isOther, NOTICE)
  }

  /** Names and values of all keys in that range. */
  async keysUnder(prefix: string): Promise<Key[]> {
    const range = { key: base64(prefix), range_end: base64(`${prefix.slice(0, -1)}0`) }
    const answer = (await etcd(this.store, 'kv/range', range)) as {
      kvs?: { key: string; value: string; lease?: string }[]
    }
    return (answer.kvs ?? []).map(({ key, value, lease = '0' }) => ({
      name: Buffer.from(key, 'base64').toString(),
      value: Buffer.from(value, 'base64').toString(),
      lease,
    }))
  }

  /** Writes a card that no program stands behind, over whatever is there. */
  async impostor(number: number, port: number, tls = 'none'): Promise<void> {
    const key = base64(`${PREFIX}${number}`)
    const card = { owner: 'x', host: '127.0.0.1', port, tls, version: '', startedWallMs: 0 }
    await etcd(this.store, 'kv/put', { key, value: base64(JSON.stringify(card)) })
    this.stack.defer(async () => {
      await etcd(this.store, 'kv/deleterange', { key })
    })
  }

  async silentPeer(): Promise<SilentPeer> {
    const peer: SilentPeer = { port: await freePort(), heard: [], sockets: new Set() }
    const server: Server = createServer((socket) => {
      peer.sockets.add(socket)
      socket.on('data', (bytes) => peer.heard.push(bytes))
      socket.on('error', () => undefined)
      socket.on('close', () => peer.sockets.delete(socket))
    }).listen(peer.port, '127.0.0.1')
    this.stack.defer(() => {
      for (const socket of peer.sockets) socket.destroy()
      server.close()
    })
    return peer
  }
}

/** Call at the top of a test file. */
export function useInstances(): { readonly at: Instances } {
  const shared = useCluster({ replicas: 0 })
  let started: Instances | undefined
  beforeAll(async () => {
    started = new Instances(shared, await PatroniCluster.prepare({ members: 0, etcds: 1 }))
    await started.begin()
  })
  afterEach(() => started?.endTest())
  afterAll(() => started?.end())
  return {
    get at() {
      if (started === undefined) throw new Error('the instances are started in beforeAll')
      return started
    },
  }
}

export function sleep(mark: string): string {
  return `/* pgsteer: primary */ select pg_sleep(60), '${mark}'`
}

export async function sight(steer: Steer): Promise<Sight> {
  const url = `http://${steer.host}:${steer.httpPort}/api/cluster`
  const response = await fetch(url, { signal: AbortSignal.timeout(5000) })
  return (await response.json()) as Sight
}

export async function numberOf(steer: Steer): Promise<number> {
  return (await sight(steer)).instance
}

/** Each of them knows the ports of all, its own number among them, and nobody else. */
export async function acquainted(steers: readonly Steer[]): Promise<void> {
  const ports = steers.map(({ port }) => port).toSorted((a, b) => a - b)
  for (const steer of steers)
    await waitFor('the instances to know each other', () => knows(steer, ports), NOTICE)
}

async function knows(steer: Steer, ports: readonly number[]): Promise<boolean> {
  const { instance, instances } = await sight(steer)
  const known = instances.map(({ port }) => port).toSorted((a, b) => a - b)
  const self = instances.find(({ isSelf }) => isSelf)
  return String(known) === String(ports) && self?.id === instance && self.port === steer.port
}

/** etcd's JSON gateway. */
export async function etcd(
  at: PatroniCluster,
  path: string,
  body: object,
): Promise<Record<string, unknown>> {
  const response = await fetch(`${at.etcds[0]?.url}/v3/${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(5000),
  })
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
  return (await response.json()) as Record<string, unknown>
}

export function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}

/** Sends the request and waits for the end of its connection. */
export async function cancel(steer: Steer, processId: number, key: Buffer): Promise<void> {
  const client = await WireClient.connect({ host: steer.host, port: steer.port, withinMs: 20_000 })
  client.send(frontend.cancelRequest(processId, key))
  await client.ended()
}

/** Of pgsteer_cancel_requests_total. */
export async function countOf(steer: Steer, result: string): Promise<number> {
  const response = await fetch(`http://${steer.host}:${steer.httpPort}/metrics`)
  const line = new RegExp(`^pgsteer_cancel_requests_total{result="${result}"} (\\d+)$`, 'm')
  return Number(line.exec(await response.text())?.[1] ?? 0)
}

/** A key of that instance which nobody holds. */
export function forged(instance: number): [processId: number, key: Buffer] {
  const id = Buffer.alloc(4)
  id.writeUInt16LE(instance, 1)
  return [id.readUInt32BE(0), Buffer.from([1, 2, 3, 0xff])]
}

/** A number that neither of the two has. */
export async function freeNumber(steer: Steer): Promise<number> {
  const taken = new Set((await sight(steer)).instances.map(({ id }) => id))
  return [1, 2, 3, 4, 5].find((each) => !taken.has(each)) ?? 0
}
