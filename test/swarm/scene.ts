/**
 * A lab with a cluster on it and applications at every node, and what both forms of the suite do with
 * them. Each step goes on from the one before; what may never happen is judged here, and what clients were told
 * is returned, by node.
 */
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Account, accountOf } from '../chaos/account.ts'
import { ChaosLoad, type Door } from '../chaos/load.ts'
import { waitFor } from '../support/wait.ts'
import { CLUSTER, Deployment, type Login } from './deployment.ts'
import { Lab, type LabNode } from './lab.ts'

const NODES = 3
const DIRECTORY = process.env['PGSTEER_LAB'] ?? ''
/** Empty on a lab that somebody has up, which is not ours to start and stop. */
const IMAGES = process.env['PGSTEER_LAB_IMAGES'] ?? ''
const APPLICATION = { user: 'shop', password: 'of-this-test-alone', database: 'shop' }
/** What the account of test/chaos wants to know of each write. */
const TABLE = `create table if not exists written (
  id text not null, port int default inet_server_port(), at timestamptz default clock_timestamp(),
  lsn pg_lsn default pg_current_wal_insert_lsn())`
/** Of each node's clients. */
const SIZE = { writers: 4, readers: 2 }
const ANSWERS_BEFORE = 20
const BUSY = { withinMs: 120_000 }
/** As in test/chaos: what is under way when the fault comes, and the one behind it. */
const TROUBLES_MAX = 2
/** Patroni's ttl, twice, and time for clients to notice. */
const FAILOVER = { withinMs: 150_000, everyMs: 500 }
const WHOLE = { withinMs: 300_000, everyMs: 1000 }
const KINDS = ['service', 'secret', 'config', 'network', 'volume'] as const

const NOTHING_LOST = { lost: 0, lostOfOurs: 0, doubled: 0, untrue: 0 }
export const NOTHING_TOLD = { failed: 0, unknown: 0, stale: 0, readErrors: 0 }
export const STAYED = { dropped: 0, refused: 0 }

/** Of a test that failed, as vitest has it. */
interface TestRun {
  readonly name: string
  readonly result?:
    | { readonly errors?: readonly { readonly message: string }[] | undefined }
    | undefined
}

type Loads = ReadonlyMap<LabNode, ChaosLoad>
/** By node: what its clients were told. */
export type Told = Readonly<Record<string, Account>>

/** The same for each node's clients, in few words. */
export function brief(told: Told): object {
  return Object.fromEntries(
    Object.entries(told).map(([node, one]) => {
      const { acknowledged, lost, unknown, failed, readErrors, dropped, refused } = one
      const counts = { acknowledged, lost, unknown, failed, readErrors, dropped, refused }
      return [node, { ...counts, writeStallMs: one.writeStallMs, errors: one.errors }]
    }),
  )
}

export const imageOf = (name: string): string => `127.0.0.1:1/${name}:test`

export class Scene {
  readonly lab = new Lab(DIRECTORY, NODES)
  readonly cluster = new Deployment(this.lab, DIRECTORY)
  /** Nodes with clients, which check that the node's name is in its pgsteer's certificate. */
  readonly places: LabNode[] = [...this.lab.nodes]
  /** How many of PostgreSQL there are. */
  members = NODES
  readonly #loads: ChaosLoad[] = []
  #busy = 0

  /** Three machines in one Swarm, which have the images. */
  async begin(): Promise<void> {
    if (IMAGES === '') return
    await this.lab.start()
    await this.lab.swarm()
    await this.lab.load(IMAGES)
  }

  async end(): Promise<void> {
    if (IMAGES !== '') await this.lab.stop()
  }

  /** One more machine in the swarm. */
  async addNode(): Promise<LabNode> {
    return this.lab.add(IMAGES === '' ? join(DIRECTORY, 'images.tar') : IMAGES)
  }

  /** A machine that nobody will see again. */
  async loseNode(node: LabNode): Promise<void> {
    await node.kill()
    this.lab.forget(node)
    this.places.splice(this.places.indexOf(node), 1)
  }

  /** Behind each step, however it ended. */
  async clear(): Promise<void> {
    await Promise.all(this.#loads.splice(0).map((load) => load.abort()))
  }

  /** For who has to find out why something failed. */
  async tell({ name, result }: TestRun, more = ''): Promise<void> {
    // At once: the reporter tells them when all is over.
    const errors = (result?.errors ?? []).map(({ message }) => message).join('\n')
    const file = await this.cluster.evidence(name, `${errors}\n${more}`)
    console.error(`${name}: ${errors}\nhow it was then: ${file}`)
  }

  /** init and up, as docs/deploy.md says. */
  async deploy(more: Readonly<Record<string, string>> = {}): Promise<void> {
    const settings = {
      NODE_IMAGE: imageOf('node'),
      PGSTEER_IMAGE: imageOf('pgsteer'),
      ETCD_IMAGE: imageOf('etcd'),
      LOCAL_IMAGES: 'true',
      PG_MEMORY: '512M',
      // Needs ESP, which not every kernel has; TLS is there in any case.
      ENCRYPTED: 'false',
      ...more,
    }
    const set = Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`])
    await this.cluster.command('init', CLUSTER, ...set)
    await this.cluster.command('up')
    await this.isWhole()
  }

  async isWhole(): Promise<void> {
    await waitFor('all members', () => this.cluster.isWhole(this.members), WHOLE)
  }

  async connectEverywhere(): Promise<void> {
    for (const node of this.places) {
      const { output, errors } = await this.cluster.psql(node, 'select current_user')
      expect(output.trim(), errors).toBe('admin')
      const plain = await this.cluster.psql(node, 'select 1', { PGSSLMODE: 'disable' })
      expect(plain.errors).toMatch(/SSL|TLS/)
      const wrong = await this.cluster.psql(node, 'select 1', { PGPASSWORD: 'postgres' })
      expect(wrong.errors).toMatch(/authentication failed/)
    }
  }

  /** A role and a database of its own, made through pgsteer. */
  async addApplication(): Promise<void> {
    const { user, password, database } = APPLICATION
    const admin = this.#door(this.lab.node(1), this.cluster.admin)
    await this.cluster.query(admin, `create role ${user} login password '${password}'`)
    await this.cluster.query(admin, `grant ${user} to admin`)
    await this.cluster.query(admin, `create database ${database} owner ${user}`)
    await this.query(TABLE)
  }

  /** Writes of all nodes' clients meet one member, and reads all others. */
  async routeEverywhere(): Promise<void> {
    const writers = new Set<string>()
    for (const node of this.places) {
      const insert = `insert into written (id) values ('from ${node.name}') returning host(inet_server_addr()) as at`
      for (const { at } of await this.query<{ at: string }>(insert, node)) writers.add(at)
    }
    expect(writers.size).toBe(1)
    for (const node of this.places) {
      const sql = 'select host(inet_server_addr()) as at'
      const read = async (): Promise<string> => {
        const [row] = await this.query<{ at: string }>(sql, node)
        return row?.at ?? ''
      }
      // A new database's functions are not known to harm nothing before its catalogue was read: until then the primary is asked.
      const isKnown = async (): Promise<boolean> => !writers.has(await read())
      await waitFor(`a first read on a replica from ${node.name}`, isKnown, BUSY)
      const readers = new Set<string>()
      const isSpread = async (): Promise<boolean> => {
        readers.add(await read())
        return [...readers].filter((at) => !writers.has(at)).length === this.members - 1
      }
      await waitFor(`reads on all replicas from ${node.name}`, isSpread, BUSY)
      expect([...readers].filter((at) => writers.has(at))).toEqual([])
    }
  }

  /**
   * Clients at every node, all of them answered often. Their connection names that node alone, or with `all` the other
   * ones behind it, as docs/deploy.md asks of applications.
   */
  async busy(name: string, names: 'own' | 'all' = 'own'): Promise<Loads> {
    // What they write has a name of its own, also where a step is done twice.
    this.#busy += 1
    const prefix = `${name}${this.#busy}`
    const started = this.places.map((node): [LabNode, ChaosLoad] => {
      const door = this.#door(node)
      const behind = names === 'all' ? this.places.filter((one) => one !== node) : []
      const doors = { write: door, read: door, others: behind.map((one) => this.#door(one)) }
      return [node, new ChaosLoad(doors, `${prefix}-${node.name}`, SIZE)]
    })
    for (const [, load] of started) {
      this.#loads.push(load)
      load.start()
    }
    const advanced = started.map(([, load]) => load.advance(ANSWERS_BEFORE))
    await waitFor('a busy load', () => advanced.every((has) => has()), BUSY)
    return new Map(started)
  }

  /** All clients of these loads write again. */
  async resumed(loads: Iterable<ChaosLoad>): Promise<void> {
    const sinceMs = performance.now()
    for (const load of loads)
      await waitFor('writes of every client', () => load.hasResumed(sinceMs), FAILOVER)
  }

  async switchover(): Promise<Told> {
    const before = await this.cluster.leader()
    const loads = await this.busy('switchover')
    await this.cluster.command('switchover')
    const isSucceeded = async (): Promise<boolean> => (await this.cluster.leader()) !== before
    await waitFor('a successor', isSucceeded, FAILOVER)
    await this.resumed(loads.values())
    await this.isWhole()
    return this.settle(loads, 'switchover', { ...NOTHING_TOLD, ...STAYED })
  }

  /** The primary's node loses its power under load, and gets it back after `meanwhile`. */
  async losePower(meanwhile: () => Promise<void> = async () => undefined): Promise<Told> {
    const before = await this.cluster.leader()
    const lost = await this.cluster.nodeOf(before)
    const loads = await this.busy('power')
    const others = new Map([...loads].filter(([node]) => node !== lost))
    await lost.kill()
    const isSucceeded = async (): Promise<boolean> => (await this.cluster.leader()) !== before
    await waitFor('a successor', isSucceeded, FAILOVER)
    await this.resumed(others.values())
    await meanwhile()
    await lost.start()
    await this.isWhole()
    await this.resumed(loads.values())
    const stayed = await this.settle(others, 'power', { stale: 0, ...STAYED })
    for (const one of Object.values(stayed))
      expect(one.troublesOfOne, JSON.stringify(one)).toBeLessThanOrEqual(TROUBLES_MAX)
    const left = new Map([...loads].filter(([node]) => node === lost))
    return { ...stayed, ...(await this.settle(left, 'power', {})) }
  }

  /** Ends loads; what their clients were told has to be true, and as `expected`. */
  async settle(loads: Loads, scenario: string, expected: Partial<Account>): Promise<Told> {
    const nowMs = performance.now()
    await Promise.all([...loads.values()].map((load) => load.stop()))
    const sql = 'select id, count(*)::int as times from written group by 1'
    // Of the primary: a replica may not have the last writes yet.
    const rows = await this.query<{ id: string; times: number }>(`/* pgsteer: primary */ ${sql}`)
    const held = { times: new Map(rows.map(({ id, times }) => [id, times])), forkLsn: null }
    const rest = { pooler: 'pgsteer', port: 5432, struckMs: nowMs, outageMs: 0, load: 0 }
    const told = [...loads].map(([node, load]): [string, Account] => {
      const account = accountOf(load, held, { scenario, ...rest, handoverMs: null })
      const said = `${node.name}: ${JSON.stringify(account)}`
      expect(account.acknowledged, said).toBeGreaterThan(0)
      expect(account, said).toMatchObject({ ...NOTHING_LOST, ...expected })
      return [node.name, account]
    })
    return Object.fromEntries(told)
  }

  /** As the application, at a node that is on. */
  query<Row>(sql: string, node = this.lab.nodes.find((one) => one.isOn)): Promise<Row[]> {
    return this.cluster.query<Row>(this.#door(node ?? this.lab.node(1)), sql)
  }

  async down(): Promise<void> {
    const [first] = this.lab.nodes
    if (first === undefined) return
    expect(await this.cluster.names(first, 'service')).not.toEqual([])
    await this.cluster.command('down')
    for (const kind of ['service', 'config', 'network'] as const)
      expect(await this.cluster.names(first, kind), kind).toEqual([])
    for (const node of this.lab.nodes)
      expect(await this.cluster.names(node, 'volume'), node.name).not.toEqual([])
    await this.cluster.command('down', '--volumes', '--secrets', `--yes-remove=${CLUSTER}`)
    for (const node of this.lab.nodes)
      for (const kind of KINDS)
        expect(await this.cluster.names(node, kind), `${kind} on ${node.name}`).toEqual([])
  }

  #door(node: LabNode, login: Login = APPLICATION): Door {
    return this.cluster.door(node, login)
  }
}
