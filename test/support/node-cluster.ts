/**
 * The stack's database services as containers without Docker: etcd, members with their agents, and the
 * repository host, with the configuration files of deploy/ and certificates of an authority of their own.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Authority, type Pair } from './certificates.ts'
import { type Container, Containers, SUBNET } from './containers.ts'
import type { Ran } from './exec.ts'
import { waitFor } from './wait.ts'

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
const read = (path: string): string => readFileSync(path, 'utf8')

export const CLUSTER = 'shop'
const PASSPHRASE = 'a-passphrase-of-the-test'

/** The secret of the repository host, as secrets.example.conf says it is filled in, with a second repository. */
function repositories(passphrase: string): string {
  const example = read(join(DEPLOY, 'pgbackrest/secrets.example.conf'))
  const first = example.replace(/^# repo1-cipher-pass=.*$/m, `repo1-cipher-pass=${passphrase}`)
  const second = ['path=/var/lib/pgbackrest/repo2', 'cipher-type=aes-256-cbc', 'cipher-pass=second']
  const more = [...second, 'retention-full=2', 'bundle=y', 'block=y']
  return `${first}\n${more.map((line) => `repo2-${line}`).join('\n')}\n`
}

const AUTHENTICATION = `
postgresql:
  authentication:
    superuser: {username: postgres, password: of-postgres}
    replication: {username: replicator, password: of-replicator}
    rewind: {username: rewind, password: of-rewind}
`

/** Smaller and quicker than a real cluster, and without pgsteer. */
const FOR_TESTS = `
bootstrap:
  dcs: {ttl: 20, loop_wait: 3, retry_timeout: 5}
postgresql:
  before_stop: /bin/true
  parameters: {shared_buffers: 32MB, work_mem: 4MB, maintenance_work_mem: 32MB, fsync: "off"}
`

export interface RepositoryOptions {
  readonly passphrase?: string
  /** A disk of that size for the repository instead of its volume. */
  readonly disk?: string
  /** A disk of that size for the restore test instead of its volume. */
  readonly scratch?: string
  readonly env?: Readonly<Record<string, string>>
}

export class NodeCluster {
  readonly containers: Containers
  readonly members: readonly string[]
  readonly #pairs: Readonly<Record<string, Pair>>
  readonly #authority: Authority

  constructor(members = 2) {
    this.members = Array.from({ length: members }, (_, index) => `patroni${index + 1}`)
    const agents = this.members.map(agentOf)
    this.containers = new Containers(['etcd1', ...this.members, ...agents, 'pgbackrest'])
    this.#authority = new Authority(join(this.containers.folder, 'ca'))
    const issue = (commonName: string, ...names: string[]): Pair =>
      this.#authority.issue({
        commonName,
        names: [commonName, ...names, 'localhost'].map((name) => `DNS:${name}`).join(','),
      })
    this.#pairs = {
      etcd1: issue('etcd1'),
      pgbackrest: issue('pgbackrest'),
      ...Object.fromEntries(this.members.map((name) => [name, issue(name, agentOf(name))])),
    }
  }

  startEtcd(): void {
    this.containers.start({
      name: 'etcd1',
      command: ['/usr/bin/etcd'],
      files: this.#secrets('etcd1'),
      volumes: { '/var/lib/etcd': 'etcd1' },
      env: {
        ETCD_NAME: 'etcd1',
        ETCD_DATA_DIR: '/var/lib/etcd/data',
        ETCD_INITIAL_CLUSTER: `etcd1=${etcdAt(2380)}`,
        ETCD_INITIAL_ADVERTISE_PEER_URLS: etcdAt(2380),
        ETCD_ADVERTISE_CLIENT_URLS: etcdAt(2379),
        ETCD_LISTEN_PEER_URLS: 'https://0.0.0.0:2380',
        ETCD_LISTEN_CLIENT_URLS: 'https://0.0.0.0:2379',
        ETCD_CERT_FILE: '/run/secrets/node.crt',
        ETCD_KEY_FILE: '/run/secrets/node.key',
        ETCD_TRUSTED_CA_FILE: '/run/secrets/ca.crt',
        ETCD_CLIENT_CERT_AUTH: 'true',
        ETCD_PEER_CERT_FILE: '/run/secrets/node.crt',
        ETCD_PEER_KEY_FILE: '/run/secrets/node.key',
        ETCD_PEER_TRUSTED_CA_FILE: '/run/secrets/ca.crt',
      },
    })
  }

  startMember(name: string): void {
    this.containers.start({ ...this.#member(name), name, command: ['member'] })
  }

  startAgent(member: string): void {
    this.containers.start({ ...this.#member(member), name: agentOf(member), command: ['agent'] })
  }

  startRepository(options: RepositoryOptions = {}): void {
    this.containers.start(this.#repository('pgbackrest', ['serve'], options))
  }

  /** `repository ARGUMENTS` beside the repository, as a job of the tool runs it. */
  repositoryJob(args: readonly string[], options: RepositoryOptions = {}): Promise<Ran> {
    // It has no name that others ask for: the service's address is taken while that runs.
    const container = this.#repository('repository-job', args, options)
    return this.containers.run({ ...container, host: 'pgbackrest' })
  }

  /** `restore ARGUMENTS` on the node of a member. */
  restoreJob(
    member: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Ran> {
    const container = this.restoring(member, args)
    return this.containers.run({ ...container, env: { ...container.env, ...env } })
  }

  restoring(member: string, args: readonly string[]): Container {
    return {
      ...this.#member(member),
      name: `restore-${member}`,
      host: member,
      command: ['restore', ...args],
    }
  }

  /** What psql prints on the node of a member, as the superuser over the socket. */
  async sql(member: string, statement: string, database = 'postgres'): Promise<string> {
    const flags = ['--no-psqlrc', '-qAtX', '-v', 'ON_ERROR_STOP=1', '-U', 'postgres']
    const psql = ['psql', ...flags, '-d', database, '-c', statement]
    const ran = await this.containers.inside(member, psql)
    if (ran.code !== 0) throw new Error(`${member}: ${statement}: ${ran.errors}`)
    return ran.output.trim()
  }

  /** Members and what they are: `patroni1 leader running`. */
  async list(): Promise<
    readonly { name: string; role: string; state: string; timeline: number }[]
  > {
    const asked = this.members.find((name) => this.containers.has(name)) ?? ''
    const ran = await this.containers.inside(asked, ['patronictl', 'list', '--format', 'json'])
    const rows = JSON.parse(ran.output) as Record<string, string>[]
    return rows.map((row) => ({
      name: String(row['Member']),
      role: String(row['Role']),
      state: String(row['State']),
      timeline: Number(row['TL']),
    }))
  }

  /** Waits until one leads and all others that run stream; returns the leader. */
  async ready(): Promise<string> {
    return waitFor(
      'a leader and its replicas',
      async () => {
        const rows = await this.list()
        const leader = rows.find((row) => row.role === 'Leader' && row.state === 'running')
        const others = rows.filter((row) => row.name !== leader?.name)
        const running = this.members.filter((name) => this.containers.has(name)).length
        const isWhole = rows.length === running && others.every((row) => row.state === 'streaming')
        return isWhole ? leader?.name : undefined
      },
      { withinMs: 120_000, everyMs: 500 },
    )
  }

  async metrics(): Promise<string> {
    const ran = await this.containers.inside('pgbackrest', [
      'curl',
      '-fsS',
      'http://127.0.0.1:9855/metrics',
    ])
    return ran.output
  }

  async close(): Promise<void> {
    await this.containers.close()
  }

  #secrets(name: string): Record<string, string> {
    const pair = this.#pairs[name]
    if (pair === undefined) throw new Error(`no certificate of ${name}`)
    return {
      '/run/secrets/ca.crt': read(this.#authority.caFile),
      '/run/secrets/node.crt': read(pair.certFile),
      '/run/secrets/node.key': read(pair.keyFile),
    }
  }

  #member(name: string): Pick<Container, 'env' | 'files' | 'volumes'> {
    const passwords = ['pgsteer_password', 'metrics_password', 'admin_password', 'pgsteer_token']
    return {
      env: {
        CLUSTER,
        BACKUP_REPOSITORIES: '2',
        PATRONI_SCOPE: CLUSTER,
        PATRONI_NAME: name,
        PATRONI_ETCD3_HOSTS: 'etcd1:2379',
        PATRONI_RESTAPI_CONNECT_ADDRESS: `${name}:8008`,
        PATRONI_POSTGRESQL_CONNECT_ADDRESS: `${name}:5432`,
        DCS_SUBNET: SUBNET,
        DB_SUBNET: SUBNET,
      },
      volumes: { '/var/lib/postgresql': `volume-${name}` },
      files: {
        ...this.#secrets(name),
        ...Object.fromEntries(passwords.map((one) => [`/run/secrets/${one}`, `of-${one}`])),
        '/etc/patroni/conf.d/10-base.yml': read(join(DEPLOY, 'patroni/base.yml')),
        '/etc/patroni/conf.d/20-test.yml': FOR_TESTS,
        '/etc/patroni/conf.d/90-auth.yml': AUTHENTICATION,
        '/etc/pgbackrest/pgbackrest.conf': read(join(DEPLOY, 'pgbackrest/member.conf')),
      },
    }
  }

  #repository(name: string, args: readonly string[], options: RepositoryOptions): Container {
    const { disk, scratch, passphrase = PASSPHRASE } = options
    return {
      name,
      command: ['repository', ...args],
      env: {
        CLUSTER,
        BACKUP_REPOSITORIES: '2',
        MEMBERS: this.members.join(','),
        BACKUP_JITTER_SECONDS: '0',
        RESTORE_TEST_SPARE_BYTES: '0',
        ...options.env,
      },
      volumes: {
        ...(disk === undefined ? { '/var/lib/pgbackrest': 'repo1' } : {}),
        ...(scratch === undefined ? { '/var/lib/restore-test': 'scratch' } : {}),
      },
      disks: {
        ...(disk === undefined ? {} : { '/var/lib/pgbackrest': disk }),
        ...(scratch === undefined ? {} : { '/var/lib/restore-test': scratch }),
      },
      files: {
        ...this.#secrets('pgbackrest'),
        '/etc/pgbackrest/pgbackrest.conf': read(join(DEPLOY, 'pgbackrest/repository.conf')),
        '/etc/pgbackrest/conf.d/90-secrets.conf': repositories(passphrase),
      },
    }
  }
}

function etcdAt(port: number): string {
  return `https://etcd1:${port}`
}

function agentOf(member: string): string {
  return member.replace('patroni', 'agent')
}
