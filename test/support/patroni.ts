/**
 * A real Patroni cluster on loopback: etcd members, Patroni members and their PostgreSQL servers,
 * each of which can be stopped, killed, frozen and started again. Everything runs in one temporary
 * folder, under an unprivileged user when the tests are root, and ends with `stop()`.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import {
  chownSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { program } from './debian.ts'
import { waitFor } from './wait.ts'

/** Where a node runs: an address of its own and what enters the network namespace that has it. */
export interface Place {
  readonly host: string
  /** Where its etcd member listens, if not there as well. */
  readonly etcdHost?: string
  /** Put before every command: `nsenter --net=...`. */
  readonly enter: readonly string[]
}

/** Where the programs are: this machine, or a Debian root that is entered with chroot. */
export interface Installation {
  readonly label: string
  /** Folder of PostgreSQL's programs, as seen from inside. */
  readonly pgBinDir: string
  /** The root to enter; null for this machine. */
  readonly root: string | null
}

export interface PatroniOptions {
  readonly members?: number
  readonly etcds?: number
  readonly installation?: Installation
  /** More flags for etcd; with `cert-file` among them it is reached over TLS. */
  readonly etcdFlags?: (folder: string) => Readonly<Record<string, string>>
  readonly ttlS?: number
  readonly loopWaitS?: number
  /** More of Patroni's dynamic configuration. */
  readonly dynamic?: Readonly<Record<string, unknown>>
  /** More of the local configuration of `postgresql`, for one member. */
  readonly postgresql?: (name: string) => Readonly<Record<string, unknown>>
  readonly tags?: (name: string) => Readonly<Record<string, unknown>>
  /** Where node 1, 2, ... is: one etcd and one Patroni member each. Loopback without it. */
  readonly place?: (node: number) => Place
}

export interface EtcdMember {
  readonly name: string
  readonly url: string
  readonly peerUrl: string
}

export interface PatroniMember {
  readonly name: string
  readonly host: string
  readonly port: number
  readonly restUrl: string
  /** Its data folder, as seen from outside. */
  readonly dataFolder: string
}

export const SCOPE = 'main'
export const SUPERUSER = { user: 'postgres', password: 'secret-of-postgres' }
export const PROBE = { user: 'pgsteer', password: 'secret-of-pgsteer' }

export function debian12(): Installation {
  const binDir = program('postgres').file.replace(/\/postgres$/, '')
  return { label: 'Debian 12', pgBinDir: binDir, root: null }
}

/** The directory that scripts/provision.mjs makes for root: Patroni 4.0, etcd 3.5, PostgreSQL 17. */
export function debian13(): Installation {
  return {
    label: 'Debian 13',
    pgBinDir: '/usr/lib/postgresql/17/bin',
    root: '/var/cache/pgsteer/trixie',
  }
}

/** What of a member's local configuration is changed here. */
export interface LocalConfiguration {
  name: string
  readonly postgresql: { listen: string; connect_address: string }
}

interface Running {
  readonly process: ChildProcess
  readonly ended: Promise<void>
}

export class PatroniCluster {
  readonly etcds: readonly EtcdMember[]
  readonly members: readonly PatroniMember[]
  readonly folder: string
  readonly #options: PatroniOptions
  readonly #installation: Installation
  /** The same folder as the programs see it. */
  readonly #inner: string
  readonly #running = new Map<string, Running>()
  readonly #frozen = new Set<number>()

  private constructor(
    options: PatroniOptions,
    places: { folder: string; etcds: readonly EtcdMember[]; members: readonly PatroniMember[] },
  ) {
    this.#options = options
    this.#installation = options.installation ?? debian12()
    this.etcds = places.etcds
    this.members = places.members
    this.folder = places.folder
    this.#inner = places.folder.slice(this.#installation.root?.length ?? 0)
  }

  /** Starts everything and returns when the primary is writable and all replicas stream. */
  static async start(options: PatroniOptions = {}): Promise<PatroniCluster> {
    const cluster = await PatroniCluster.prepare(options)
    try {
      for (const etcd of cluster.etcds) cluster.startEtcd(etcd.name)
      for (const member of cluster.members) cluster.startPatroni(member.name)
      await cluster.ready()
      return cluster
    } catch (error) {
      const logs = cluster.#logs()
      await cluster.stop()
      throw new Error(`the cluster did not start:\n${logs}`, { cause: error })
    }
  }

  /** Writes the configuration and starts nothing. */
  static async prepare(options: PatroniOptions = {}): Promise<PatroniCluster> {
    const root = options.installation?.root ?? ''
    const folder = mkdtempSync(join(root, tmpdir(), 'pgsteer-patroni-'))
    const scheme = options.etcdFlags?.('')['cert-file'] === undefined ? 'http' : 'https'
    const ports = await freePorts(2 * ((options.etcds ?? 3) + (options.members ?? 3)))
    const take = (): number => ports.pop() ?? 0
    const hostOf = (index: number): string => options.place?.(index + 1).host ?? LOOPBACK
    const etcdHostOf = (index: number): string =>
      options.place?.(index + 1).etcdHost ?? hostOf(index)
    const etcds = Array.from({ length: options.etcds ?? 3 }, (_, index) => ({
      name: `etcd${index + 1}`,
      url: `${scheme}://${etcdHostOf(index)}:${take()}`,
      peerUrl: `http://${etcdHostOf(index)}:${take()}`,
    }))
    const members = Array.from({ length: options.members ?? 3 }, (_, index) => ({
      name: `pg${index + 1}`,
      host: hostOf(index),
      port: take(),
      restUrl: `http://${hostOf(index)}:${take()}`,
      dataFolder: join(folder, `pg${index + 1}`),
    }))
    const cluster = new PatroniCluster(options, { folder, etcds, members })
    own(folder, root === '' ? '/' : root)
    for (const member of members) cluster.#writeConfiguration(member)
    return cluster
  }

  get etcdHosts(): string[] {
    return this.etcds.map((etcd) => etcd.url)
  }

  member(name: string): PatroniMember {
    const found = this.members.find((member) => member.name === name)
    if (found === undefined) throw new Error(`no member ${name}`)
    return found
  }

  startEtcd(name: string): void {
    const etcd = this.etcds.find((one) => one.name === name)
    if (etcd === undefined) throw new Error(`no etcd ${name}`)
    const all = this.etcds.map((one) => `${one.name}=${one.peerUrl}`).join(',')
    const flags = {
      name,
      'data-dir': join(this.#inner, name),
      'listen-client-urls': etcd.url,
      'advertise-client-urls': etcd.url,
      'listen-peer-urls': etcd.peerUrl,
      'initial-advertise-peer-urls': etcd.peerUrl,
      'initial-cluster': all,
      'initial-cluster-state': 'new',
      ...this.#options.etcdFlags?.(this.#inner),
    }
    this.#spawn(
      name,
      'etcd',
      Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`),
    )
  }

  startPatroni(name: string): void {
    this.#spawn(name, 'patroni', [join(this.#inner, `${name}.json`)])
  }

  /** Changes the local configuration of a member, which reads it when it is started. */
  reconfigure(name: string, change: (configuration: LocalConfiguration) => void): void {
    const file = join(this.folder, `${name}.json`)
    const configuration = JSON.parse(readFileSync(file, 'utf8')) as LocalConfiguration
    change(configuration)
    writeFileSync(file, JSON.stringify(configuration, null, 2))
  }

  /** Sends `signal` to etcd or Patroni of that name; SIGKILL and SIGTERM wait for its end. */
  async signal(name: string, signal: NodeJS.Signals): Promise<void> {
    const running = this.#running.get(name)
    const pid = running?.process.pid
    if (running === undefined || pid === undefined) throw new Error(`${name} does not run`)
    if (signal === 'SIGSTOP') this.#frozen.add(pid)
    if (signal === 'SIGCONT') this.#frozen.delete(pid)
    process.kill(pid, signal)
    if (signal === 'SIGKILL' || signal === 'SIGTERM') await running.ended
  }

  /** The postmaster of a member, or null when there is none. */
  postmaster(name: string): number | null {
    const file = join(this.member(name).dataFolder, 'postmaster.pid')
    if (!existsSync(file)) return null
    const pid = Number(readFileSync(file, 'utf8').split('\n')[0])
    return Number.isSafeInteger(pid) && isAlive(pid) ? pid : null
  }

  /** Its node is gone: Patroni and PostgreSQL die in the same moment. */
  async killNode(name: string): Promise<void> {
    const postmaster = this.postmaster(name)
    await this.signal(name, 'SIGKILL')
    if (postmaster !== null) process.kill(postmaster, 'SIGKILL')
  }

  killPostgres(name: string): void {
    const postmaster = this.postmaster(name)
    if (postmaster === null) throw new Error(`PostgreSQL of ${name} does not run`)
    process.kill(postmaster, 'SIGKILL')
  }

  /** The name of the member that holds the leader key, by etcd's own JSON gateway. */
  async leader(): Promise<string | null> {
    const key = Buffer.from(`/service/${SCOPE}/leader`).toString('base64')
    const asked = this.etcds.map((etcd) => post(`${etcd.url}/v3/kv/range`, { key }))
    const answer = await Promise.any(asked).catch((cause: unknown) => {
      throw new Error('no etcd answers', { cause })
    })
    const { kvs = [] } = JSON.parse(answer) as { kvs?: { value: string }[] }
    return kvs[0] === undefined ? null : Buffer.from(kvs[0].value, 'base64').toString()
  }

  /** Writes a key below the scope, or deletes it when `value` is null, through that etcd member. */
  async put(etcd: EtcdMember | undefined, name: string, value: string | null): Promise<true> {
    const key = Buffer.from(`/service/${SCOPE}/${name}`).toString('base64')
    if (value === null) await post(`${etcd?.url}/v3/kv/deleterange`, { key })
    else await post(`${etcd?.url}/v3/kv/put`, { key, value: Buffer.from(value).toString('base64') })
    return true
  }

  /** Whether there is a key of that name below the scope. */
  async has(name: string): Promise<boolean> {
    const key = Buffer.from(`/service/${SCOPE}/${name}`).toString('base64')
    const { count = '0' } = JSON.parse(
      await post(`${this.etcds[0]?.url}/v3/kv/range`, { key, count_only: true }),
    ) as { count?: string }
    return count !== '0'
  }

  async switchover(candidate?: string): Promise<void> {
    const leader = await this.leader()
    if (leader === null) throw new Error('nobody leads')
    await post(`${this.member(leader).restUrl}/switchover`, { leader, candidate })
  }

  /** A POST to Patroni's REST API of that member; it lasts for as long as what is asked for. */
  async rest(name: string, path: string, body: unknown = {}): Promise<string> {
    return post(`${this.member(name).restUrl}/${path}`, body)
  }

  /** Returns when the process of that name (etcd or Patroni) is no more. */
  async ended(name: string): Promise<void> {
    await this.#running.get(name)?.ended
  }

  /** Patroni's dynamic configuration. One that was just started does not take it yet: the next is asked. */
  async configure(dynamic: Readonly<Record<string, unknown>>): Promise<void> {
    const running = this.members.filter(({ name }) => this.#running.has(name))
    let turn = 0
    await waitFor(
      'a Patroni that takes the configuration',
      () => {
        const member = running[turn++ % running.length]
        return post(`${member?.restUrl}/config`, dynamic, 'PATCH')
      },
      { withinMs: 30_000 },
    )
  }

  /** One statement on one member, as the superuser. */
  async query(name: string, sql: string): Promise<Record<string, unknown>[]> {
    const { host, port } = this.member(name)
    const client = new Client({ host, port, ...SUPERUSER, database: 'postgres' })
    client.on('error', () => undefined)
    await client.connect()
    try {
      return (await client.query<Record<string, unknown>>(sql)).rows
    } finally {
      await client.end()
    }
  }

  /** Waits for a writable leader, makes the probe's role, and waits for the replicas. */
  async ready(): Promise<void> {
    const leader = await waitFor('a leader', async () => (await this.leader()) ?? undefined, {
      withinMs: 60_000,
      everyMs: 100,
    })
    await waitFor('the probe role', () => this.#makeProbeRole(leader), {
      withinMs: 30_000,
      everyMs: 100,
    })
    const replicas = this.members.length - 1
    const streaming = "select 1 from pg_stat_replication where state = 'streaming'"
    await waitFor(
      'streaming replicas',
      async () => (await this.query(leader, streaming)).length >= replicas,
      { withinMs: 90_000, everyMs: 200 },
    )
  }

  /** Ends everything that was started, and removes the folder. */
  async stop(): Promise<void> {
    for (const pid of this.#frozen) if (isAlive(pid)) process.kill(pid, 'SIGCONT')
    const postmasters = this.members.map((member) => this.postmaster(member.name))
    const running = [...this.#running.values()]
    for (const { process: child } of running) child.kill('SIGKILL')
    await Promise.all(running.map((one) => one.ended))
    for (const pid of [...postmasters, ...this.members.map((one) => this.postmaster(one.name))])
      if (pid !== null && isAlive(pid)) process.kill(pid, 'SIGKILL')
    await waitFor('the end of every server', () => postmasters.every((pid) => !isAlive(pid)))
    await waitFor('an empty folder', () => {
      rmSync(this.folder, { recursive: true, force: true })
      return !existsSync(this.folder)
    })
  }

  /** The last lines of everybody's log, for errors. */
  #logs(): string {
    const names = [...this.etcds, ...this.members].map((one) => one.name)
    const tails = names.map((name) => {
      const file = join(this.folder, `${name}.log`)
      const lines = existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n') : []
      return `${name}: ${lines.slice(-5).join(`\n${name}: `)}`
    })
    return tails.join('\n')
  }

  async #makeProbeRole(leader: string): Promise<boolean> {
    const [row] = await this.query(leader, 'select pg_is_in_recovery() as r')
    if (row?.['r'] !== false) return false
    await this.query(
      leader,
      `do $$ begin if not exists (select from pg_roles where rolname = '${PROBE.user}') then
         create role ${PROBE.user} login password '${PROBE.password}' in role pg_monitor; end if; end $$`,
    )
    return true
  }

  #spawn(name: string, what: string, args: readonly string[]): void {
    if (this.#running.has(name)) throw new Error(`${name} runs already`)
    const log = openSync(join(this.folder, `${name}.log`), 'a')
    const { file, before, env, as } = this.#command(what)
    const enter = this.#options.place?.(Number(/\d+$/.exec(name)?.[0])).enter ?? []
    const [first = file, ...rest] = [...enter, file, ...before, ...args]
    const child = spawn(first, rest, {
      stdio: ['ignore', log, log],
      cwd: '/',
      env: { PATH: process.env['PATH'], LANG: 'C.UTF-8', ...env },
      ...as,
    })
    const { promise: ended, resolve } = Promise.withResolvers<void>()
    const running = { process: child, ended }
    const end = (): void => {
      if (this.#running.get(name) === running) this.#running.delete(name)
      resolve()
    }
    child.once('error', end)
    child.once('exit', end)
    this.#running.set(name, running)
  }

  #command(what: string): {
    file: string
    before: readonly string[]
    env: Readonly<Record<string, string>>
    as: { uid?: number; gid?: number }
  } {
    const { root } = this.#installation
    if (root !== null) {
      // Patroni looks for its postmaster in /proc and makes semaphores in /dev/shm; mounted in a
      // namespace of its own they leave no trace.
      const script =
        'mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" && ' +
        'exec chroot --userspec="$2" "$1" "${@:3}"'
      const user = identityIn(root).join(':')
      const before = ['--mount', 'bash', '-c', script, 'enter', root, user, `/usr/bin/${what}`]
      return { file: 'unshare', before, env: {}, as: {} }
    }
    const { file, args, env } = program(what)
    const [uid, gid] = identityIn('/')
    return { file, before: args, env, as: process.getuid?.() === 0 ? { uid, gid } : {} }
  }

  #writeConfiguration(member: PatroniMember): void {
    const rest = member.restUrl.slice('http://'.length)
    const address = `${member.host}:${member.port}`
    const { ttlS = 20, loopWaitS = 5, dynamic = {} } = this.#options
    const configuration = {
      scope: SCOPE,
      namespace: '/service/',
      name: member.name,
      restapi: { listen: rest, connect_address: rest },
      etcd3: { hosts: this.etcds.map((etcd) => etcd.url.slice('http://'.length)) },
      bootstrap: {
        dcs: {
          ttl: ttlS,
          loop_wait: loopWaitS,
          retry_timeout: 5,
          postgresql: { use_pg_rewind: true, parameters: { max_connections: 50 } },
          ...dynamic,
        },
        initdb: [{ encoding: 'UTF8' }, { locale: 'C.UTF-8' }, 'data-checksums'],
      },
      postgresql: {
        listen: address,
        connect_address: address,
        data_dir: join(this.#inner, member.name),
        bin_dir: this.#installation.pgBinDir,
        pgpass: join(this.#inner, `${member.name}.pgpass`),
        authentication: {
          superuser: { username: SUPERUSER.user, password: SUPERUSER.password },
          replication: { username: 'replicator', password: 'secret-of-replicator' },
        },
        pg_hba: [
          'local all all trust',
          `host replication replicator ${networkOf(member.host)} scram-sha-256`,
          `host all all ${networkOf(member.host)} scram-sha-256`,
        ],
        // A replica that is made anew does not wait for minutes until a checkpoint is through.
        basebackup: [{ checkpoint: 'fast' }],
        parameters: {
          unix_socket_directories: this.#inner,
          fsync: 'off',
          shared_buffers: '16MB',
          password_encryption: 'scram-sha-256',
        },
        ...this.#options.postgresql?.(member.name),
      },
      watchdog: { mode: 'off' },
      tags: this.#options.tags?.(member.name) ?? {},
    }
    // JSON is YAML.
    const file = join(this.folder, `${member.name}.json`)
    writeFileSync(file, JSON.stringify(configuration, null, 2))
    own(file, this.#installation.root ?? '/')
  }
}

const LOOPBACK = '127.0.0.1'

/** Whom a member lets in: its neighbours. */
function networkOf(host: string): string {
  return host === LOOPBACK ? `${host}/32` : host.replace(/\.\d+$/, '.0/24')
}

/** uid and gid of `postgres` in that root, or of nobody: PostgreSQL refuses to run as root. */
function identityIn(root: string): [uid: number, gid: number] {
  const line = /^postgres:[^:]*:(\d+):(\d+):/m.exec(readFileSync(join(root, 'etc/passwd'), 'utf8'))
  return line === null ? [65_534, 65_534] : [Number(line[1]), Number(line[2])]
}

function own(path: string, root: string): void {
  if (process.getuid?.() !== 0) return
  const [uid, gid] = identityIn(root)
  chownSync(path, uid, gid)
}

function isAlive(pid: number | null): boolean {
  const stat = `/proc/${pid ?? 'none'}/stat`
  // An orphan that nobody reaps stays as a zombie, which is dead enough.
  return existsSync(stat) && !/\) Z /.test(readFileSync(stat, 'utf8'))
}

const ANSWER_MS = 30_000

async function post(url: string, body: unknown, method = 'POST'): Promise<string> {
  const response = await fetch(url, {
    method,
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(url.includes('/v3/') ? 2000 : ANSWER_MS),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text}`)
  return text
}

/** Below the range from which outgoing connections take theirs, so that none of them is taken away. */
const PORT_MIN = 12_000
const PORT_MAX = 31_000

async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>()
  while (ports.size < count) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN))
    if (await canListen(port)) ports.add(port)
  }
  return [...ports]
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => {
      server.close(() => resolve(true))
    })
  })
}
