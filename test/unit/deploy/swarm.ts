/**
 * A Swarm in memory behind the tool's `docker`: it keeps nodes, secrets, stacks and labels, answers jobs as
 * the node image would, and remembers every command. For plans: which commands, in which order, and which
 * not again.
 */
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parse } from 'yaml'
import type { Clock } from '../../../src/base/clock.ts'
import { type Machine, runCluster } from '../../../src/deploy/cluster.ts'
import type { DockerOptions, DockerResult } from '../../../src/deploy/docker.ts'

const DEPLOY = resolve(import.meta.dirname, '../../../deploy')
/** What changes the Swarm, but for jobs. */
const CHANGES =
  /^(node update|secret (create|rm)|config rm|stack (deploy|rm)|service (update|scale))/

/** Taking and leaving the lock changes nothing of the cluster. */
const LOCKS = /^config rm id-\w+\.lock/

/** As etcd's gateway lists one: without a name before it has begun. */
interface EtcdMember {
  readonly ID: string
  readonly name: string
  readonly peerURLs: readonly string[]
}

/** How often an update is looked for before it has begun. */
const LATE = 3

interface ServiceFile {
  readonly image: string
  readonly secrets?: readonly { readonly source: string }[]
  readonly deploy?: { readonly labels?: Record<string, string> }
}

interface NetworkFile {
  readonly name: string
  readonly external?: boolean
  readonly driver_opts?: Record<string, string>
  readonly ipam?: { readonly config: readonly { readonly subnet: string }[] }
}

interface StackFile {
  readonly services: Record<string, ServiceFile>
  readonly secrets: Record<string, { readonly name: string }>
  readonly networks?: Record<string, NetworkFile>
}

/** A service of a stack. */
interface Deployed {
  readonly stack: string
  readonly image: string
  readonly labels: Record<string, string>
}

type Environment = Readonly<Record<string, string | undefined>>

const folders: string[] = []

/** For afterAll. */
export function removeFolders(): void {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true })
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 8)

export class FakeSwarm {
  readonly commands: string[] = []
  readonly secrets = new Map<string, { labels: string[]; text: string }>()
  /** Configs that the tool makes by hand, by their names; the id is the name with `id-` before it. */
  readonly configs = new Map<string, Record<string, string>>()
  readonly stacks = new Set<string>()
  readonly labels = new Map<string, Map<string, string>>()
  /** What jobs were asked to do: their command. */
  readonly jobs: string[][] = []
  readonly said: string[] = []
  leader = 'patroni1'
  config: Record<string, unknown> = { ttl: 30 }
  members = ['patroni1', 'patroni2', 'patroni3']
  engine = '29.7.2'
  /** How an update of pgsteer ends. */
  updateState = 'completed'
  readonly down = new Set<string>()
  client = '29.7.2'
  /** For each deploy: members that it changed, or that had not begun or did not run what they were given before. */
  readonly unsettled: string[][] = []
  /** What the last stack was made with. */
  environment: Environment = {}
  /** Images that do not start, and members that are not well whatever they run. */
  readonly badImages = new Set<string>()
  readonly ill = new Set<string>()
  /** The first command of which this is true fails without any effect. */
  failing: ((command: string) => boolean) | undefined
  /** The tool is killed right after the first command of which this is true, which has its effect. */
  killing: ((command: string) => boolean) | undefined
  readonly services = new Map<string, Deployed>()
  readonly networks = new Map<string, { readonly stack: string; readonly file: NetworkFile }>()
  readonly folder = mkdtempSync(join(tmpdir(), 'pgsteer-deploy-'))
  readonly #output = new Map<string, string>()
  readonly #templates = new Map<string, string>()
  readonly #tasks = new Map<string, string>()
  readonly #late = new Map<string, number>()
  /** Jobs that wait in vain. */
  readonly #unwell = new Set<string>()
  etcd: EtcdMember[] = [1, 2, 3].map((slot) => ({
    ID: `${slot}00`,
    name: `etcd${slot}`,
    peerURLs: [`https://etcd${slot}:2380`],
  }))
  /** Volumes by node. */
  readonly volumes = new Map<string, Set<string>>()
  /** Jobs of others that Docker has, by their names: until when somebody may wait for them. */
  readonly jobsLeft = new Map<string, number>()
  /** Services that were seen to run anew, or jobs and waits, in their order. */
  readonly started: string[] = []
  #nowMs = 0

  constructor({ nodes = ['a', 'b', 'c'] }: { nodes?: readonly string[] } = {}) {
    folders.push(this.folder)
    for (const node of nodes) this.labels.set(node, new Map())
  }

  /** Runs the tool with these words; the exit code. */
  async cluster(...args: readonly string[]): Promise<number> {
    this.said.length = 0
    this.commands.length = 0
    this.jobs.length = 0
    const say = (text: string): void => {
      this.said.push(text)
    }
    const machine: Machine = {
      run: (words, options) => Promise.resolve(this.#run(words, options)),
      clock: this.#clock(),
      output: { step: say, warn: (text) => say(`warning: ${text}`), print: say },
      env: { PGSTEER_CLUSTER_DIR: join(this.folder, 'cluster') },
      cwd: this.folder,
      deploy: DEPLOY,
    }
    return await runCluster(args, machine)
  }

  /** The commands that changed something, without jobs. */
  get changes(): string[] {
    return this.commands.filter((command) => CHANGES.test(command) && !LOCKS.test(command))
  }

  /** Docker begins what it was given, while nobody looks. */
  begin(): void {
    this.#late.clear()
  }

  /** Services that have not begun what they were given. */
  get late(): string[] {
    return [...this.#late].flatMap(([name, left]) => (left > 0 ? [name] : []))
  }

  get text(): string {
    return this.said.join('\n')
  }

  file(...names: readonly string[]): string {
    return readFileSync(join(this.folder, 'cluster', ...names), 'utf8')
  }

  /** Turns at once, and counts what was waited for. */
  #clock(): Clock {
    return {
      nowMs: () => this.#nowMs,
      wallMs: () => Date.UTC(2026, 10, 23),
      after: (delayMs, run) => {
        this.#nowMs += delayMs
        setImmediate(run)
        return { cancel: () => undefined }
      },
      every: () => ({ cancel: () => undefined }),
    }
  }

  #run(args: readonly string[], { input = '', env = {} }: DockerOptions): DockerResult {
    const command = args.join(' ')
    this.commands.push(command)
    if (this.failing?.(command) === true) {
      this.failing = undefined
      return { code: 1, stdout: '', stderr: 'connection lost' }
    }
    const [stdout, code = 0] = [this.#answer(args, input, env)].flat() as [string, number?]
    if (this.killing?.(command) === true) {
      this.killing = undefined
      throw new Error('killed')
    }
    return { code, stdout, stderr: code === 0 ? '' : stdout }
  }

  #answer(
    args: readonly string[],
    input: string,
    env: Environment,
  ): string | [said: string, code: number] {
    const last = args.at(-1) ?? ''
    const given = (option: string): string[] =>
      args.flatMap((word, index) => (args[index - 1] === option ? [word] : []))
    switch (args.slice(0, 2).join(' ')) {
      case 'node ls':
        return [...this.labels.keys()].map((name) => `id-${name}`).join('\n')
      case 'node inspect':
        return JSON.stringify([...this.labels.keys()].map((name) => this.#node(name)))
      case 'node update': {
        const labels = this.labels.get(last.slice('id-'.length))
        for (const text of given('--label-add'))
          labels?.set(...(text.split('=') as [string, string]))
        for (const name of given('--label-rm')) labels?.delete(name)
        return last
      }
      case 'secret ls':
        return [...this.secrets.keys()].join('\n')
      case 'secret inspect':
        return JSON.stringify(
          [...this.secrets].map(([Name, { labels }]) => ({
            Spec: { Name, Labels: Object.fromEntries(labels.map((text) => text.split('='))) },
          })),
        )
      case 'secret create':
        this.secrets.set(args.at(-2) ?? '', { labels: given('--label'), text: input })
        return 'id'
      case 'secret rm':
        for (const name of args.slice(2)) this.secrets.delete(name)
        return ''
      case 'config create': {
        const name = args.at(-2) ?? ''
        if (this.configs.has(name)) return [`config ${name} already exists`, 1]
        this.configs.set(
          name,
          Object.fromEntries(given('--label').map((text) => text.split(/=(.*)/s, 2))) as Record<
            string,
            string
          >,
        )
        return `id-${name}`
      }
      case 'config inspect': {
        const Labels = this.configs.get(last)
        return Labels === undefined
          ? [`no such config: ${last}`, 1]
          : JSON.stringify([{ ID: `id-${last}`, Spec: { Labels } }])
      }
      case 'config rm':
        for (const id of args.slice(2)) this.configs.delete(id.slice('id-'.length))
        return ''
      case 'version --format':
        return this.client
      case 'network ls':
        return [...this.networks.keys()].join('\n')
      case 'network inspect': {
        const file = this.networks.get(last)?.file
        const Subnet = file?.ipam?.config[0]?.subnet ?? '10.0.7.0/24'
        return file === undefined
          ? [`network ${last} not found`, 1]
          : JSON.stringify([{ IPAM: { Config: [{ Subnet }] }, Options: file.driver_opts }])
      }
      case 'stack ls':
        return [...this.stacks].join('\n')
      case 'stack config':
        this.environment = env
        return filled(readFileSync(last, 'utf8'), env)
      case 'stack deploy':
        this.stacks.add(last)
        this.#deploy(last, args[args.indexOf('--compose-file') + 1] ?? '')
        return ''
      case 'stack rm':
        this.stacks.delete(last)
        for (const things of [this.services, this.networks])
          for (const [name, { stack }] of things) if (stack === last) things.delete(name)
        return ''
      case 'service create':
        return this.#job(args)
      case 'service ls': {
        const [filter = ''] = given('--filter')
        const stack = /^label=com\.docker\.stack\.namespace=(.*)/.exec(filter)?.[1]
        if (stack !== undefined)
          return [...this.services]
            .flatMap(([name, one]) => (one.stack === stack ? [name] : []))
            .join('\n')
        const names = [...this.jobsLeft.keys()]
        return names.filter((name) => `name=${name}`.startsWith(filter)).join('\n')
      }
      case 'service rm':
        this.jobsLeft.delete(last)
        return ''
      case 'service inspect': {
        const untilMs = this.jobsLeft.get(last)
        return untilMs === undefined
          ? JSON.stringify(args.slice(2).map((name) => this.#service(name)))
          : JSON.stringify([{ Spec: { Labels: { 'pgsteer.until': String(untilMs) } } }])
      }
      case 'service ps':
        return this.#task(last)
      case 'inspect --type':
        return JSON.stringify([{ Status: this.#status(last) }])
      case 'service logs':
        return this.#output.get(last) ?? ''
      default:
        return ''
    }
  }

  #deploy(stack: string, path: string): void {
    const file = parse(readFileSync(path, 'utf8'), { version: '1.1' }) as StackFile
    for (const network of Object.values(file.networks ?? {}))
      if (network.external !== true && !this.networks.has(network.name))
        this.networks.set(network.name, { stack, file: network })
    const unsettled = new Set(
      [...this.services.keys()].filter(
        (name) => (this.#late.get(name) ?? 0) > 0 || !this.#isWell(name.slice('main_'.length)),
      ),
    )
    const before = new Set(this.services.keys())
    for (const [short, service] of Object.entries(file.services)) {
      const name = `${stack}_${short}`
      const { labels = {}, ...deploy } = service.deploy ?? {}
      this.services.set(name, { stack, image: service.image, labels })
      const secrets = service.secrets?.map(({ source }) => file.secrets[source]?.name)
      const template = JSON.stringify({ ...service, secrets, configs: [], deploy })
      if (this.#templates.get(name) === template) continue
      this.#templates.set(name, template)
      this.#late.set(name, before.has(name) ? LATE : 0)
      if (before.has(name)) unsettled.add(name)
    }
    this.unsettled.push([...unsettled].filter((name) => /^main_(etcd|patroni)/.test(name)))
  }

  /** Whether a member runs and does its work. */
  #isWell(member: string): boolean {
    return (
      !this.ill.has(member) && !this.badImages.has(this.services.get(`main_${member}`)?.image ?? '')
    )
  }

  #service(name: string) {
    const TaskTemplate = this.#templates.get(name)
    const isBegun = (this.#late.get(name) ?? 0) <= 0
    // Docker forgets the last one when it takes the next.
    const UpdateStatus = isBegun
      ? {
          State: this.updateState,
          StartedAt: digest(TaskTemplate ?? ''),
          Message: 'unhealthy',
        }
      : undefined
    const Labels = this.services.get(name)?.labels
    return { Spec: { Name: name, Labels, TaskTemplate }, UpdateStatus }
  }

  /** The update of a service begins some time after it was asked for. */
  #task(service: string): string {
    const template = this.#templates.get(service)
    if (template === undefined) return `job-${service}`
    const left = this.#late.get(service) ?? 0
    this.#late.set(service, left - 1)
    if (left <= 0) this.#tasks.set(service, digest(template))
    return `${service}-${this.#tasks.get(service) ?? 'first'}`
  }

  #status(id: string) {
    if (this.jobsLeft.has(id.slice('job-'.length))) return { State: 'running' }
    if (id.startsWith('job-') && this.#unwell.has(id.slice('job-'.length)))
      return { State: 'failed', ContainerStatus: { ExitCode: 1 } }
    if (id.startsWith('job-')) return { State: 'complete', ContainerStatus: { ExitCode: 0 } }
    const service = id.slice(0, id.lastIndexOf('-'))
    if (this.badImages.has(this.services.get(service)?.image ?? '')) return { State: 'failed' }
    this.started.push(service)
    return { State: 'running' }
  }

  #node(Hostname: string) {
    const Labels = Object.fromEntries(this.labels.get(Hostname) ?? [])
    const index = [...this.labels.keys()].indexOf(Hostname)
    return {
      ID: `id-${Hostname}`,
      Spec: { Role: 'manager', Availability: 'active', Labels },
      Status: { State: this.down.has(Hostname) ? 'down' : 'ready', Addr: `10.77.0.${index + 1}` },
      Description: {
        Hostname,
        Engine: { EngineVersion: this.engine },
        Resources: { MemoryBytes: 16_000_000_000 },
      },
    }
  }

  #job(args: readonly string[]): string {
    const name = args[args.indexOf('--name') + 1] ?? ''
    const at = args.findIndex((word) => word === 'facts' || word === 'curl' || word === 'sh')
    const command = args.slice(at)
    this.jobs.push([...command])
    if (command[1] === 'wait') {
      const lacks = args
        .flatMap((word) => /^(?:MEMBERS|ETCD)=(.+)/.exec(word)?.[1]?.split(',') ?? [])
        .filter((member) => !this.#isWell(member))
      if (lacks.length > 0) this.#unwell.add(name)
      else this.started.push('well')
      this.#output.set(name, `${JSON.stringify({ lacks })}\n`)
      return name
    }
    if (command[3] === 'volumes') {
      this.#output.set(name, this.#onVolumes(args, command))
      return name
    }
    this.#output.set(
      name,
      command[0] === 'curl' ? this.#call(command) : `${JSON.stringify(this.#facts())}\n`,
    )
    return name
  }

  /** As the scripts of volumes.ts do, on the node of the constraint or on all that are up. */
  #onVolumes(args: readonly string[], [, , script = '', , ...names]: readonly string[]): string {
    const only = args.flatMap((word) => /^node\.id==id-(.*)/.exec(word)?.[1] ?? [])
    const nodes = (only.length > 0 ? only : [...this.labels.keys()]).filter(
      (node) => !this.down.has(node),
    )
    const said = nodes.flatMap((node) =>
      names
        .filter((volume) => this.volumes.get(node)?.has(volume) === true)
        .map((volume) => {
          if (!script.includes('DELETE')) return `present: ${volume}`
          this.volumes.get(node)?.delete(volume)
          return `removed ${volume}`
        }),
    )
    return `${said.join('\n')}\n`
  }

  #call(command: readonly string[]): string {
    const url = command.at(-1) ?? ''
    const body = JSON.parse(command[command.indexOf('--data-binary') + 1] ?? '{}') as {
      candidate: string
      ID: string
      peerURLs: string[]
    }
    if (url.endsWith('/switchover')) this.leader = body.candidate
    if (url.endsWith('/member/list'))
      return `${JSON.stringify({ members: this.etcd })}\n\nstatus 200\n`
    if (url.endsWith('/member/remove')) this.etcd = this.etcd.filter(({ ID }) => ID !== body.ID)
    if (url.endsWith('/member/add'))
      this.etcd.push({ ID: '400', name: '', peerURLs: body.peerURLs })
    return `done\n\nstatus 200\n`
  }

  #facts() {
    const said = this.members.map((name) => ({
      name,
      role: name === this.leader ? 'leader' : 'sync_standby',
      state: name === this.leader ? 'running' : 'streaming',
      timeline: 1,
      lag: name === 'patroni3' ? 0 : 8,
    }))
    return {
      members: this.members.map((name) => ({ name, state: 'running' })),
      etcd: ['etcd1', 'etcd2', 'etcd3'].map((name) =>
        this.#isWell(name) ? { name, leader: name === 'etcd1' } : { name, error: 'no answer' },
      ),
      pgsteer: [{ address: '10.77.2.9', ready: true, says: 'ready' }],
      cluster: { members: said },
      config: this.config,
      backups: {
        'pg_backup_run_last_success_timestamp_seconds.full': Date.UTC(2026, 10, 23) / 1000,
      },
      alerts: [],
    }
  }
}

/** As `docker stack config` does. */
function filled(text: string, env: Environment): string {
  return text.replace(
    /\$\{(\w+)(?::?[?-]([^}]*))?\}/g,
    (_, name: string, other = '') => env[name] ?? other,
  )
}
