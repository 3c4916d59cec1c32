/**
 * A cluster that `deploy/cluster` put on a lab's Swarm, as its operator and its applications see it:
 * the tool's commands, what Patroni says of the members, and doors through the pgsteer of each node.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Client } from 'pg'
import type { Door } from '../chaos/load.ts'
import { program } from '../support/debian.ts'
import { execute, type Ran } from '../support/exec.ts'
import type { Lab, LabNode } from './lab.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const TOOL = { file: join(ROOT, 'deploy/cluster'), args: [], env: {} }
const TOOL_MS_MAX = 1_500_000
export const CLUSTER = 'main'
const PORT = 6432
const LOG_LINES = '60'
/** Of one command: nodes that are gone do not answer. */
const EVIDENCE_MS_MAX = 10_000

/** As Patroni's /cluster says. */
export interface Member {
  readonly name: string
  readonly role: string
  readonly state: string
  readonly timeline: number
}

interface Placed {
  readonly name: string
  readonly node: string
  readonly error: string
}

export interface Placement {
  readonly members: readonly Placed[]
  readonly etcd: readonly Placed[]
}

export type Login = NonNullable<Door['login']>

const placed = ({ name, node, error }: Placed): Placed => ({ name, node, error })

const isRunning = ({ role, state }: Member): boolean =>
  state === (role === 'leader' ? 'running' : 'streaming')

export class Deployment {
  readonly #lab: Lab
  /** The cluster's folder on the operator's machine. */
  readonly folder: string

  constructor(lab: Lab, directory: string) {
    this.#lab = lab
    this.folder = join(directory, `cluster-${CLUSTER}`)
  }

  /** A command of the tool, given to any manager that is on. */
  tool(...parameters: readonly string[]): Promise<Ran> {
    const manager = this.#lab.nodes.find((node) => node.isOn)
    const env = { DOCKER_HOST: manager?.engine ?? '', PGSTEER_CLUSTER_DIR: this.folder }
    return execute(TOOL, parameters, { env, withinMs: TOOL_MS_MAX })
  }

  /** The same where it has to go well: what it printed. */
  async command(...parameters: readonly string[]): Promise<string> {
    const { code, output, errors } = await this.tool(...parameters)
    if (code === 0) return output
    throw new Error(
      `deploy/cluster ${parameters.join(' ')} ended with ${code}:\n${output}${errors}`,
    )
  }

  /** What Patroni says, asked on whichever node answers. */
  async members(): Promise<readonly Member[]> {
    const url = 'https://localhost:8008/cluster'
    const ask = ['curl', '-fsS', '--max-time', '5', '--cacert', '/run/secrets/ca.crt', url]
    for (const node of this.#lab.nodes) {
      const [container] = await this.#containers(node, 'patroni')
      if (container === undefined) continue
      const { code, output } = await node.try('exec', [container, ...ask])
      if (code === 0) return (JSON.parse(output) as { members: Member[] }).members
    }
    throw new Error('no member answers')
  }

  /** The name of the member that leads. */
  async leader(): Promise<string> {
    const leader = (await this.members()).find((member) => member.role === 'leader')
    if (leader === undefined) throw new Error('nobody leads')
    return leader.name
  }

  /** Whether a member leads, on one of these nodes. */
  async leaderIsOn(nodes: readonly LabNode[]): Promise<boolean> {
    return nodes.includes(await this.nodeOf(await this.leader()))
  }

  /** Where members of both kinds are, as `status` says. */
  async placement(): Promise<Placement> {
    // Its code says whether all is well, which alerts about the machine are against.
    const { output, errors } = await this.tool('status', '--json')
    if (!output.startsWith('{')) throw new Error(`deploy/cluster status: ${errors}`)
    const { members, etcd } = JSON.parse(output) as Placement
    return { members: members.map(placed), etcd: etcd.map(placed) }
  }

  /** All members run on one timeline, and every replica streams. */
  async isWhole(count: number): Promise<boolean> {
    const members = await this.members()
    const timelines = new Set(members.map(({ timeline }) => timeline))
    const hasSync = members.some(({ role }) => role === 'sync_standby')
    return members.length === count && members.every(isRunning) && timelines.size === 1 && hasSync
  }

  /** Which node a member runs on. */
  async nodeOf(member: string): Promise<LabNode> {
    for (const node of this.#lab.nodes)
      if ((await this.#containers(node, member)).length > 0) return node
    throw new Error(`${member} runs nowhere`)
  }

  /** Over TLS, with the name in the certificate checked. */
  door(node: LabNode, login: Login): Door {
    const ssl = { ca: this.authority, servername: node.name }
    return { host: node.name, port: PORT, login: { ssl, ...login } }
  }

  get authority(): string {
    return readFileSync(this.authorityFile, 'utf8')
  }

  /** What clients trust: both while the authority is changed, as the tool says. */
  get authorityFile(): string {
    const both = join(this.folder, 'ca/both.crt')
    return existsSync(both) ? both : join(this.folder, 'ca/ca.crt')
  }

  /** Who makes databases and roles. */
  get admin(): Login {
    const file = join(this.folder, 'secrets/1/admin_password')
    return { user: 'admin', password: readFileSync(file, 'utf8').trim(), database: 'postgres' }
  }

  /** One statement over a connection of its own. */
  async query<Row>(door: Door, sql: string): Promise<Row[]> {
    const client = new Client({
      host: door.host,
      port: door.port,
      ...door.login,
      connectionTimeoutMillis: 20_000,
      query_timeout: 60_000,
    })
    client.on('error', () => undefined)
    await client.connect()
    try {
      return (await client.query(sql)).rows as Row[]
    } finally {
      await client.end()
    }
  }

  /** psql, as the deploy page says. */
  psql(node: LabNode, sql: string, more: Readonly<Record<string, string>> = {}): Promise<Ran> {
    const { user = '', password = '', database = '' } = this.admin
    const env = {
      PGPASSWORD: String(password),
      PGSSLMODE: 'verify-full',
      PGSSLROOTCERT: this.authorityFile,
      PGCONNECT_TIMEOUT: '10',
      ...more,
    }
    const where = ['-h', node.name, '-p', String(PORT), '-U', user, '-d', database]
    return execute(program('psql'), ['-XAtw', ...where, '-c', sql], { env })
  }

  /** Everything that Docker has on that node of one kind, by name. */
  async names(node: LabNode, kind: 'service' | 'secret' | 'config' | 'network' | 'volume') {
    const lines = (await node.docker(kind, 'ls', '--format', '{{.Name}}')).split('\n')
    return lines.filter((name) => name.startsWith(CLUSTER)).toSorted()
  }

  /** What one needs to see why it went wrong, as a file; returns its path. */
  async evidence(title: string, more = ''): Promise<string> {
    const parts: string[] = [more]
    const manager = this.#lab.nodes.find((node) => node.isOn)
    const add = async (...parameters: readonly [string, ...string[]]): Promise<void> => {
      const [command, ...rest] = parameters
      const ran = await manager?.try(command, rest, { withinMs: EVIDENCE_MS_MAX })
      parts.push(`== docker ${parameters.join(' ')}`, ran?.output ?? '', ran?.errors ?? '')
    }
    await add('node', 'ls')
    await add('service', 'ls')
    const services = (await manager?.docker('service', 'ls', '--format', '{{.Name}}')) ?? ''
    for (const service of services.split('\n').filter(Boolean)) {
      await add('service', 'ps', '--no-trunc', service)
      await add('service', 'logs', '--timestamps', '--tail', LOG_LINES, service)
    }
    for (const node of this.#lab.nodes) parts.push(`== engine of ${node.name}`, node.logs())
    const folder = join(ROOT, '.cache/reports/swarm')
    mkdirSync(folder, { recursive: true })
    const file = join(folder, `${title.replaceAll(/\W+/g, '-').slice(0, 60)}.txt`)
    writeFileSync(file, parts.join('\n'))
    return file
  }

  async #containers(node: LabNode, service: string): Promise<string[]> {
    if (!node.isOn) return []
    const name = `name=^/?${CLUSTER}_${service}`
    const { output } = await node.try('ps', ['-q', '--filter', name])
    return output.split('\n').filter(Boolean)
  }
}
