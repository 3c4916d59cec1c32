/**
 * A Docker engine for building images: the machine's own if one answers; else, as root, one of our
 * own, which is ended afterwards. Its containers use the machine's network: it makes no bridge,
 * touches nobody's firewall rules and does not make the machine forward packets.
 */
import { spawn, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { bound } from './isolation.mjs'
import { installMissing, isRoot } from './provision.mjs'
import { SetupError, say } from './setup.mjs'

const START_MS_MAX = 30_000
const STOP_MS_MAX = 15_000

/** Debian keeps these out of some users' PATH. */
process.env.PATH = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`

export function hasEngine() {
  return spawnSync('docker', ['info']).status === 0
}

export function canHaveEngine() {
  return isRoot || hasEngine()
}

let isOwn = false

/** False for the machine's: what is in that belongs to others. */
export function isOwnEngine() {
  return isOwn
}

function provideDocker() {
  if (spawnSync('dockerd', ['--version']).status !== 0)
    installMissing({ 'docker.io': 'usr/sbin/dockerd' })
}

/** What test/swarm/lab.ts runs. */
export function provideLab() {
  provideDocker()
  installMissing({
    iproute2: 'usr/sbin/ip',
    'postgresql-client-15': 'usr/lib/postgresql/15/bin/psql',
  })
}

/**
 * Does the work while an engine answers at DOCKER_HOST. `directory`: where its images are kept for
 * the next time; without one they are gone afterwards. A signal that comes meanwhile throws when the
 * work is over and everything is cleaned up: who does the work sees to it that a signal ends that.
 */
export async function withEngine(work, directory) {
  if (directory === undefined && hasEngine()) return work()
  provideDocker()
  const signals = watchSignals()
  const before = process.env.DOCKER_HOST
  const kept = directory ?? mkdtempSync('/var/tmp/pgsteer-docker-')
  let stop
  try {
    mkdirSync(kept, { recursive: true })
    process.env.DOCKER_HOST = `unix://${join(kept, 'docker.sock')}`
    stop = await start(kept)
    isOwn = true
    return await work()
  } finally {
    isOwn = false
    await stop?.()
    if (directory === undefined) remove(kept)
    if (before === undefined) delete process.env.DOCKER_HOST
    else process.env.DOCKER_HOST = before
    await signals.end()
  }
}

function watchSignals() {
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP']
  let first
  const remember = (name) => {
    first ??= name
  }
  for (const name of names) process.on(name, remember)
  return {
    async end() {
      // One that came while the work was synchronous is told only now.
      await pause(10)
      for (const name of names) process.off(name, remember)
      if (first !== undefined) throw new SetupError(`Ended by ${first}.`)
    },
  }
}

/** Mounts and processes of an engine that was killed take a moment to end. */
function remove(directory) {
  rmSync(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 500 })
}

/**
 * First process of the engine's namespaces. A containerd of the machine's own is out of sight: one that
 * dockerd finds it uses.
 */
const FRAME = `mkdir -p /run/containerd && mount -t tmpfs none /run/containerd || exit 1
trap 'kill "$!"' TERM; dockerd "$@" & wait "$!"; wait "$!"`
/** systemd, which does not know the numbers of processes in there, is not asked for control groups. */
const APART =
  '--bridge=none --iptables=false --ip6tables=false --ip-forward=false --exec-opt native.cgroupdriver=cgroupfs'

/** Returns what ends it. Killed it is when we are, with its containers and mounts. */
async function start(directory) {
  if (hasEngine()) throw new SetupError(`An engine uses ${directory} already.`)
  say('Starting a Docker engine ...')
  const log = join(directory, 'log')
  const config = join(directory, 'daemon.json')
  writeFileSync(log, '')
  // The machine's own settings are for the machine's own engine.
  writeFileSync(config, '{}')
  // One that was killed leaves these, with numbers of processes that mean nothing now.
  for (const one of ['pid', 'exec']) remove(join(directory, one))
  const output = openSync(log, 'a')
  const places = ['data', 'exec'].flatMap((one) => [`--${one}-root`, join(directory, one)])
  const where = ['--pidfile', join(directory, 'pid'), '--host', process.env.DOCKER_HOST]
  const parameters = ['--config-file', config, ...places, ...where, ...APART.split(' ')]
  const namespaces = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
  const command = ['unshare', ...namespaces, 'bash', '-c', FRAME, 'dockerd', ...parameters]
  const [file, ...rest] = bound(command)
  const engine = spawn(file, rest, { stdio: ['ignore', output, output], detached: true })
  const isOver = () => engine.exitCode !== null || engine.signalCode !== null
  const stop = async () => {
    const first = isOver() ? '' : readIfThere(`/proc/${engine.pid}/task/${engine.pid}/children`)
    if (first !== '') terminate(Number(first))
    if (!(await within(STOP_MS_MAX, isOver))) engine.kill('SIGKILL')
    await within(STOP_MS_MAX, isOver)
  }
  if (await within(START_MS_MAX, () => isOver() || hasEngine())) if (!isOver()) return stop
  await stop()
  throw new SetupError(`The Docker engine did not start:\n${readIfThere(log).slice(-2000)}`)
}

function terminate(pid) {
  try {
    process.kill(pid, 'SIGTERM')
  } catch {
    // It has just ended by itself.
  }
}

function readIfThere(file) {
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}

async function within(ms, ask) {
  const deadline = Date.now() + ms
  while (!ask()) {
    if (Date.now() > deadline) return false
    await pause(100)
  }
  return true
}
