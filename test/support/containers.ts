/**
 * Containers without Docker: processes in the Debian 13 root, each with an overlay of its own on it, its
 * own network address, host name, processes and user, as the services of deploy/stack.yml have them. For
 * tests that need the node image's real entries where no Docker is; needs root. Names are resolved by
 * /etc/hosts, volumes are folders. Its processes end with this one, however that ends; networks and
 * folders that are left behind then are removed by the next one.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { Ran } from './exec.ts'
import { debian13 } from './patroni.ts'
import { waitFor } from './wait.ts'

export interface Container {
  readonly name: string
  /** Whose address and name it has; its own name without it. Containers of one host run one at a time. */
  readonly host?: string
  readonly command: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Folder inside to the name of a volume, which is made when first used. */
  readonly volumes?: Readonly<Record<string, string>>
  /** Path inside to text, readable by the user of PostgreSQL alone. */
  readonly files?: Readonly<Record<string, string>>
  /** Folder inside to its size: a disk of its own that can be full. */
  readonly disks?: Readonly<Record<string, string>>
}

interface Running {
  readonly process: ChildProcess
  readonly ended: Promise<number | null>
  readonly log: string
}

const NODE = resolve(import.meta.dirname, '../../deploy/images/node')
const NETWORK = '10.88.77'
export const SUBNET = `${NETWORK}.0/24`
const IMAGE_ENV = {
  PATH: '/usr/local/bin:/usr/lib/postgresql/17/bin:/usr/bin:/bin:/usr/sbin:/sbin',
  LANG: 'C.UTF-8',
  PGDATA: '/var/lib/postgresql/17/pgdata',
  PGHOST: '/var/lib/postgresql/run',
  PG_BIN: '/usr/lib/postgresql/17/bin',
  PATRONICTL_CONFIG_FILE: '/run/patroni',
}

/** Of folders and network namespaces; our process number follows. */
const FOLDERS = 'pgsteer-containers-'
const SPACES = 'pgc'

/**
 * A first process that stays root: the kernel forgets whose death ends a process when that changes its
 * user, as the first process of a container does.
 */
const KEEPER = ['unshare', '--pid', '--fork', '--kill-child']

export class Containers {
  readonly folder = mkdtempSync(join(tmpdir(), `${FOLDERS}${process.pid}-`))
  readonly #hosts: readonly string[]
  readonly #running = new Map<string, Running>()
  readonly #bridge = `${SPACES}${process.pid}`
  readonly #root = debian13().root ?? '/'

  /** `hosts`: every name that will have an address. */
  constructor(hosts: readonly string[]) {
    this.#hosts = hosts
    removeStale()
    chmodSync(this.folder, 0o755)
    try {
      this.#connect()
    } catch (error) {
      this.#disconnect()
      rmSync(this.folder, { recursive: true })
      throw error
    }
  }

  #connect(): void {
    const hosts = this.#hosts
    ip('netns', 'add', this.#bridge)
    ip('-n', this.#bridge, 'link', 'add', 'name', 'bridge0', 'type', 'bridge')
    ip('-n', this.#bridge, 'link', 'set', 'bridge0', 'up')
    hosts.forEach((host, index) => {
      const space = this.#space(host)
      ip('netns', 'add', space)
      const pair = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', space]
      ip('-n', this.#bridge, 'link', 'add', 'name', `v${index}`, ...pair)
      ip('-n', this.#bridge, 'link', 'set', `v${index}`, 'master', 'bridge0', 'up')
      ip('-n', space, 'address', 'add', `${NETWORK}.${index + 1}/24`, 'dev', 'eth0')
      ip('-n', space, 'link', 'set', 'eth0', 'up')
      ip('-n', space, 'link', 'set', 'lo', 'up')
    })
  }

  #disconnect(): void {
    for (const host of [...this.#hosts.map((one) => this.#space(one)), this.#bridge])
      removeSpace(host)
  }

  start(container: Container): void {
    const { name, host = name } = container
    if (this.#running.has(name)) throw new Error(`${name} runs already`)
    const work = join(this.folder, 'containers', name)
    rmSync(work, { recursive: true, force: true })
    mkdirSync(work, { recursive: true })
    writeFileSync(join(work, 'start'), this.#script(container, work), { mode: 0o755 })
    const log = join(this.folder, `${name}.log`)
    const sink = openSync(log, 'a')
    const enter = ['nsenter', `--net=/run/netns/${this.#space(host)}`]
    const spaces = ['--mount', '--uts', '--ipc', '--pid', '--fork']
    const child = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', ...enter, ...KEEPER, 'unshare', ...spaces, join(work, 'start')],
      { stdio: ['ignore', sink, sink], cwd: '/' },
    )
    const ended = once(child, 'exit').then(([code]: unknown[]) => {
      this.#running.delete(name)
      return code as number | null
    })
    this.#running.set(name, { process: child, ended, log })
  }

  /** Runs it to its end, as Docker runs a job: exit code and what it printed this time. */
  async run(container: Container, withinMs = 240_000): Promise<Ran> {
    const before = this.log(container.name).length
    this.start(container)
    const running = this.#running.get(container.name)
    const timer = setTimeout(() => this.#kill(container.name), withinMs)
    const code = (await running?.ended) ?? null
    clearTimeout(timer)
    return { code, output: this.log(container.name).slice(before), errors: '' }
  }

  /** A command in a container that runs, as its user. */
  async inside(name: string, command: readonly string[]): Promise<Ran> {
    const pid = this.#first(name)
    if (pid === undefined) throw new Error(`${name} does not run:\n${this.log(name).slice(-2000)}`)
    const env = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean)
    const who = [
      'setpriv',
      '--reuid=postgres',
      '--regid=postgres',
      '--clear-groups',
      '/usr/bin/env',
      '-i',
    ]
    const child = spawn(
      'nsenter',
      ['-t', String(pid), '-m', '-u', '-i', '-n', '-p', '-r', '-w', ...who, ...env, ...command],
      { stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000, killSignal: 'SIGKILL' },
    )
    let [output, errors] = ['', '']
    child.stdout.on('data', (text: Buffer) => {
      output += text.toString()
    })
    child.stderr.on('data', (text: Buffer) => {
      errors += text.toString()
    })
    await once(child, 'close')
    return { code: child.exitCode, output, errors }
  }

  /** Whether it runs. */
  has(name: string): boolean {
    return this.#running.has(name)
  }

  /** What it has printed, over all its runs. */
  log(name: string): string {
    const file = join(this.folder, `${name}.log`)
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }

  /** A volume as seen from outside. */
  volume(name: string): string {
    const folder = join(this.folder, 'volumes', name)
    if (!existsSync(folder)) {
      mkdirSync(folder, { recursive: true, mode: 0o700 })
      execFileSync('chown', [this.#user(), folder])
    }
    return folder
  }

  /** SIGTERM to its first process and all the time that it takes, as Docker does within the grace. */
  async stop(name: string): Promise<void> {
    const running = this.#running.get(name)
    const pid = this.#first(name)
    if (running === undefined || pid === undefined) return
    process.kill(pid, 'SIGTERM')
    await running.ended
  }

  /** SIGKILL to all of it in one moment. */
  async kill(name: string): Promise<void> {
    const running = this.#running.get(name)
    this.#kill(name)
    await running?.ended
  }

  /** Ends everything and removes every trace. */
  async close(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((name) => this.kill(name)))
    this.#disconnect()
    await waitFor('an empty folder', () => {
      rmSync(this.folder, { recursive: true, force: true })
      return !existsSync(this.folder)
    })
  }

  #kill(name: string): void {
    const pid = this.#first(name)
    if (pid === undefined) this.#running.get(name)?.process.kill('SIGKILL')
    else process.kill(pid, 'SIGKILL')
  }

  /** The first process of its namespace, as this machine numbers it. */
  #first(name: string): number | undefined {
    const keeper = childOf(this.#running.get(name)?.process.pid)
    return childOf(keeper)
  }

  #space(host: string): string {
    return `${this.#bridge}-${host}`
  }

  #user(): string {
    const passwd = readFileSync(join(this.#root, 'etc/passwd'), 'utf8')
    const [, uid = '', group = ''] = /^postgres:[^:]*:(\d+):(\d+):/m.exec(passwd) ?? []
    return `${uid}:${group}`
  }

  /** What makes the container out of a namespace, and becomes its command. */
  #script(container: Container, work: string): string {
    const hosts = this.#hosts.map((host, index) => `${NETWORK}.${index + 1} ${host}`)
    const files = {
      '/etc/hosts': `127.0.0.1 localhost\n${hosts.join('\n')}\n`,
      '/etc/resolv.conf': '',
      ...container.files,
    }
    const user = this.#user()
    const lines = Object.entries(files).flatMap(([path, text], index) => {
      const source = join(work, `file${index}`)
      writeFileSync(source, text, { mode: 0o600 })
      const mode = path.startsWith('/etc/host') || path.startsWith('/etc/resolv') ? '444' : '400'
      return [
        `mkdir -p "$(dirname '${path}')"`.replaceAll("'/", `'${work}/all/`),
        `rm -f '${work}/all${path}'`,
        `install -m ${mode} -o ${user.replace(':', ' -g ')} '${source}' '${work}/all${path}'`,
      ]
    })
    const volumes = Object.entries(container.volumes ?? {}).flatMap(([path, name]) => [
      `mkdir -p '${work}/all${path}'`,
      `mount --bind '${this.volume(name)}' '${work}/all${path}'`,
    ])
    const [uid, gid] = user.split(':')
    const disks = Object.entries(container.disks ?? {}).flatMap(([path, size]) => [
      `mkdir -p '${work}/all${path}'`,
      `mount -t tmpfs -o size=${size},mode=0700,uid=${uid},gid=${gid} tmpfs '${work}/all${path}'`,
    ])
    const env = Object.entries({
      ...IMAGE_ENV,
      HOSTNAME: container.host ?? container.name,
      ...container.env,
    })
    const command = [...env.map(([key, value]) => `${key}=${value}`), ...container.command].map(
      quote,
    )
    return `#!/bin/bash
set -eu
mount --make-rprivate /
hostname ${container.host ?? container.name}
mkdir -p ${work}/over ${work}/work ${work}/all
mount -t overlay overlay -o lowerdir=${this.#root},upperdir=${work}/over,workdir=${work}/work ${work}/all
mount -t proc proc ${work}/all/proc
mount --rbind /dev ${work}/all/dev
mount -t tmpfs -o mode=1777 tmpfs ${work}/all/dev/shm
mount -t tmpfs -o mode=1777 tmpfs ${work}/all/tmp
mount -t tmpfs -o mode=0755 tmpfs ${work}/all/run
install -d -o ${uid} -g ${gid} ${work}/all/run/patroni ${work}/all/run/secrets
mkdir -p ${work}/all/usr/local/lib/pgsteer
cp -r ${NODE}/backup ${NODE}/backup-environment ${work}/all/usr/local/lib/pgsteer/
cp ${entries().join(' ')} ${dirname(dirname(NODE))}/patroni-before-stop ${work}/all/usr/local/bin/
rm -f ${work}/all/etc/pgbackrest.conf
${[...lines, ...volumes, ...disks].join('\n')}
exec chroot --userspec=${user} ${work}/all /usr/bin/env -i ${command.join(' ')}
`
  }
}

/** The image's own commands: what is executable in its folder. */
function entries(): string[] {
  const files = readdirSync(NODE, { withFileTypes: true }).filter((one) => one.isFile())
  const paths = files.map(({ name }) => join(NODE, name))
  return paths.filter((path) => (statSync(path).mode & 0o111) !== 0)
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

/** The only one; undefined while there is none. */
function childOf(parent: number | undefined): number | undefined {
  const file = `/proc/${parent}/task/${parent}/children`
  const children = existsSync(file) ? readFileSync(file, 'utf8').trim() : ''
  return children === '' ? undefined : Number(children.split(' ')[0])
}

/** What those left behind that were ended in the middle. */
function removeStale(): void {
  const spaces = existsSync('/run/netns') ? readdirSync('/run/netns') : []
  for (const space of spaces) if (isStale(space, SPACES)) removeSpace(space)
  for (const folder of readdirSync(tmpdir()))
    if (isStale(folder, FOLDERS)) rmSync(join(tmpdir(), folder), { recursive: true, force: true })
}

function isStale(name: string, prefix: string): boolean {
  const owner = name.startsWith(prefix)
    ? Number.parseInt(name.slice(prefix.length), 10)
    : Number.NaN
  return !Number.isNaN(owner) && !existsSync(`/proc/${owner}`)
}

/** One that cannot be removed keeps no other. */
function removeSpace(name: string): void {
  spawnSync('ip', ['netns', 'delete', name], { stdio: 'ignore' })
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: 'pipe' })
}
