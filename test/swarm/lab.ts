/**
 * A Docker Swarm of several machines on this one: per node a Docker engine in network, UTS, mount and
 * process namespaces of its own, joined by a bridge. Clients are where this process is, with the
 * node's names in /etc/hosts. What is done to a node is what happens to machines: power off, cable
 * out, power on. `isolation.mjs` has put this process into namespaces of its own, so all of it
 * ends with it, whatever happens; only files stay, which whoever isolated it removes.
 *
 * Engines see no registry and no name server: images are loaded, and a name that has to be asked of
 * one is refused at once.
 */
import { spawn } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { execute, type Ran, type RunOptions } from '../support/exec.ts'
import { waitFor } from '../support/wait.ts'

const SUBNET = '10.77.0'
/** Where clients are, and the way out that leads nowhere. */
const CLIENTS = `${SUBNET}.254`
const CGROUPS = '/sys/fs/cgroup'
const ENGINE_MS_MAX = 60_000
const LOAD_MS_MAX = 300_000
/** On a machine mounts are shared with containers that ask for it, and /run is empty when it starts. */
const START = `hostname "$0" && mount --make-rshared / && mount -t tmpfs -o mode=755 none /run && { dockerd "$@" & wait $!; }`

/** What docs/deploy.md asks every node's /etc/docker/daemon.json to be. */
function daemonConfig(): string {
  const page = readFileSync(join(import.meta.dirname, '../../docs/deploy.md'), 'utf8')
  const [, block] = /```json\n([^`]*dns-opts[^`]*)```/.exec(page) ?? []
  if (block === undefined) throw new Error('docs/deploy.md shows no daemon.json')
  return block
}

export class LabNode {
  readonly name: string
  readonly address: string
  /** For DOCKER_HOST. */
  readonly engine: string
  readonly #directory: string
  readonly #cgroup: string
  readonly #link: string

  constructor(directory: string, number: number) {
    this.name = `node${number}`
    this.address = `${SUBNET}.${number}`
    this.#directory = join(directory, this.name)
    this.#cgroup = basename(directory)
    this.#link = `to-${this.name}`
    this.engine = `unix://${join(this.#directory, 'docker.sock')}`
  }

  /** Power on: returns when its engine answers. */
  async start(): Promise<void> {
    await this.#connect()
    mkdirSync(this.#directory, { recursive: true })
    const config = join(this.#directory, 'daemon.json')
    writeFileSync(config, daemonConfig())
    const log = openSync(this.#log, 'a')
    // The second is where every machine has it, and only this node's containers can be given it.
    const hosts = ['--host', this.engine, '--host', 'unix:///run/docker.sock']
    const engine = [...hosts, '--data-root', join(this.#directory, 'data')]
    const more = ['--config-file', config, '--cgroup-parent', `/${this.#cgroup}/${this.name}`]
    const apart = ['--uts', '--mount', '--pid', '--ipc', '--fork', '--kill-child', '--mount-proc']
    const parameters = ['unshare', ...apart, 'bash', '-c', START, this.name, ...engine, ...more]
    const child = spawn('nsenter', [`--net=/run/netns/${this.name}`, ...parameters], {
      stdio: ['ignore', log, log],
      detached: true,
    })
    child.unref()
    writeFileSync(this.#pidFile, String(child.pid))
    const isUp = async () => {
      if (!this.isOn) throw new Error(`the engine of ${this.name} ended:\n${this.logs()}`)
      return (await this.try('info')).code === 0
    }
    await waitFor(`the engine of ${this.name}`, isUp, { withinMs: ENGINE_MS_MAX, everyMs: 100 })
  }

  get isOn(): boolean {
    const pid = this.#pid
    return pid !== undefined && existsSync(`/proc/${pid}`)
  }

  /** Power off: engine, containers and link are gone at once, and nobody is told. */
  async kill(): Promise<void> {
    const pid = this.#pid
    if (pid !== undefined && existsSync(`/proc/${pid}`)) {
      // The first process of its namespace ends when all others there have.
      const [first] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')
      process.kill(first ? Number(first) : pid, 'SIGKILL')
      await waitFor(`the end of ${this.name}`, () => !existsSync(`/proc/${pid}`))
    }
    await run('ip', 'link', 'del', this.#link).catch(() => undefined)
    await run('ip', 'netns', 'del', this.name).catch(() => undefined)
    rmSync(this.#pidFile, { force: true })
  }

  /** Cable out: packets vanish, everything on the node goes on. */
  async cut(): Promise<void> {
    await run('ip', 'link', 'set', this.#link, 'down')
  }

  async heal(): Promise<void> {
    await run('ip', 'link', 'set', this.#link, 'up')
  }

  /** What a docker command on this node printed. */
  docker(...parameters: readonly string[]): Promise<string> {
    return run('docker', '--host', this.engine, ...parameters)
  }

  /** The same where failing is an answer, or where it takes long. */
  try(command: string, parameters: readonly string[] = [], options?: RunOptions): Promise<Ran> {
    const program = { file: 'docker', args: ['--host', this.engine, command], env: {} }
    return execute(program, parameters, options)
  }

  /** Puts images of an archive made by `docker save` on it. */
  async load(archive: string): Promise<void> {
    const parameters = ['--quiet', '--input', archive]
    const { code, errors } = await this.try('load', parameters, { withinMs: LOAD_MS_MAX })
    if (code !== 0) throw new Error(`docker load on ${this.name}: ${errors}`)
  }

  /** The end of what its engine logged. */
  logs(lines = 40): string {
    return existsSync(this.#log)
      ? readFileSync(this.#log, 'utf8').trimEnd().split('\n').slice(-lines).join('\n')
      : ''
  }

  get #log(): string {
    return join(this.#directory, 'log')
  }

  get #pidFile(): string {
    return join(this.#directory, 'pid')
  }

  get #pid(): number | undefined {
    return existsSync(this.#pidFile) ? Number(readFileSync(this.#pidFile, 'utf8')) : undefined
  }

  async #connect(): Promise<void> {
    const last = this.address.slice(SUBNET.length + 1).padStart(2, '0')
    const here = ['-n', this.name]
    await run('ip', 'netns', 'add', this.name)
    const peer = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', this.name]
    await run('ip', 'link', 'add', this.#link, ...peer)
    // Who comes back comes back with the network card that it left with.
    await run('ip', ...here, 'link', 'set', 'eth0', 'address', `02:00:0a:4d:00:${last}`)
    await run('ip', ...here, 'addr', 'add', `${this.address}/24`, 'dev', 'eth0')
    for (const device of ['lo', 'eth0']) await run('ip', ...here, 'link', 'set', device, 'up')
    await run('ip', ...here, 'route', 'add', 'default', 'via', CLIENTS)
    await run('ip', 'link', 'set', this.#link, 'master', 'lab', 'up')
  }
}

export class Lab {
  readonly #nodes: LabNode[]
  readonly #directory: string

  /** Of a lab that another process started, too. */
  constructor(directory: string, count: number) {
    this.#directory = directory
    this.#nodes = Array.from({ length: count }, (_, index) => new LabNode(directory, index + 1))
  }

  get nodes(): readonly LabNode[] {
    return this.#nodes
  }

  /** Machines with an engine each, and no swarm yet. */
  async start(): Promise<void> {
    if (process.env['PGSTEER_ISOLATED'] !== 'yes')
      throw new Error('a lab is started in namespaces of its own: see scripts/isolation.mjs')
    await run('ip', 'link', 'add', 'lab', 'type', 'bridge')
    await run('ip', 'addr', 'add', `${CLIENTS}/24`, 'dev', 'lab')
    await run('ip', 'link', 'set', 'lab', 'up')
    await this.#name()
    weigh(this.#directory)
    await Promise.all(this.nodes.map((node) => node.start()))
  }

  node(number: number): LabNode {
    const node = this.nodes[number - 1]
    if (node === undefined) throw new Error(`the lab has no node${number}`)
    return node
  }

  /** All of them managers of one swarm. */
  async swarm(): Promise<void> {
    const [first, ...others] = this.nodes
    if (first === undefined) return
    await first.docker('swarm', 'init', '--advertise-addr', first.address)
    for (const node of others) await this.#join(node)
  }

  /** Puts images of an archive made by `docker save` on every node. */
  async load(archive: string): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.load(archive)))
  }

  /** One more machine, a manager too, with the images of the archive. */
  async add(archive: string): Promise<LabNode> {
    const node = new LabNode(this.#directory, this.#nodes.length + 1)
    appendFileSync(join(this.#directory, 'hosts'), `${node.address} ${node.name}\n`)
    if (!node.isOn) await node.start()
    const state = await node.docker('info', '--format', '{{.Swarm.LocalNodeState}}')
    if (state.trim() !== 'active') await this.#join(node)
    await node.load(archive)
    this.#nodes.push(node)
    return node
  }

  /** A machine that is gone for good: nobody counts on it any more. */
  forget(node: LabNode): void {
    this.#nodes.splice(this.#nodes.indexOf(node), 1)
  }

  async #join(node: LabNode): Promise<void> {
    const member = this.nodes.find((one) => one.isOn)
    if (member === undefined) throw new Error('no node is on')
    const token = (await member.docker('swarm', 'join-token', '-q', 'manager')).trim()
    const joining = ['--token', token, '--advertise-addr', node.address]
    await node.docker('swarm', 'join', ...joining, member.address)
  }

  async stop(): Promise<void> {
    for (const node of this.nodes) await node.kill()
    await run('ip', 'link', 'del', 'lab').catch(() => undefined)
    // Nothing can be mounted where a file is mounted that is gone: the next lab of this process would not start.
    for (const [path] of this.#names()) await run('umount', path).catch(() => undefined)
    removeCgroups(this.#directory)
    rmSync(this.#directory, { recursive: true, force: true })
  }

  /** What clients and engines know of names. */
  #names(): readonly (readonly [path: string, text: string])[] {
    const names = this.nodes.map(({ address, name }) => `${address} ${name}\n`)
    return [
      ['/etc/hosts', `127.0.0.1 localhost\n${names.join('')}`],
      ['/etc/resolv.conf', `nameserver ${CLIENTS}\n`],
    ]
  }

  /** Clients and engines find the nodes by name, and no name server at all. */
  async #name(): Promise<void> {
    mkdirSync(this.#directory, { recursive: true })
    for (const [path, text] of this.#names()) {
      const file = join(this.#directory, path.slice(path.lastIndexOf('/') + 1))
      appendFileSync(file, text)
      await run('mount', '--bind', file, path)
    }
  }
}

/**
 * Processors are shared among groups: a lab of several machines would count as one process beside the others of a
 * busy machine, and its clusters would starve.
 */
function weigh(directory: string): void {
  const name = basename(directory)
  // The first version of control groups has a tree for each controller.
  const [group, file, weight] = existsSync(join(CGROUPS, 'cpu'))
    ? [join(CGROUPS, 'cpu', name), 'cpu.shares', '32768']
    : [join(CGROUPS, name), 'cpu.weight', '3200']
  mkdirSync(group, { recursive: true })
  if (existsSync(join(group, file))) writeFileSync(join(group, file), weight)
}

/** Control groups outlive those who were in them, and have the name of the lab's directory. */
export function removeCgroups(directory: string): void {
  const name = basename(directory)
  const parents = ['.', ...readdirSync(CGROUPS)].map((one) => join(CGROUPS, one, name))
  for (const parent of parents.filter((one) => existsSync(one))) {
    const below = readdirSync(parent, { recursive: true, withFileTypes: true })
    const folders = below.filter((one) => one.isDirectory())
    const paths = folders.map((one) => join(one.parentPath, one.name))
    for (const path of [...paths.toSorted((a, b) => b.length - a.length), parent]) rmdirSync(path)
  }
}

async function run(file: string, ...parameters: readonly string[]): Promise<string> {
  const { code, output, errors } = await execute({ file, args: [], env: {} }, parameters)
  if (code !== 0) throw new Error(`${file} ${parameters.join(' ')}: ${errors}`)
  return output
}
