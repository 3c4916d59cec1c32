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
 * the next time; without one they are gone afterwards.
 */
export async function withEngine(work, directory) {
  if (directory === undefined && hasEngine()) return work()
  provideDocker()
  const kept = directory ?? mkdtempSync('/var/tmp/pgsteer-docker-')
  mkdirSync(kept, { recursive: true })
  const before = process.env.DOCKER_HOST
  process.env.DOCKER_HOST = `unix://${join(kept, 'docker.sock')}`
  const stop = await start(kept)
  // Its containers and mounts must not outlive us.
  const leave = () => void stop().finally(() => process.exit(130))
  process.once('SIGINT', leave).once('SIGTERM', leave)
  try {
    return await work()
  } finally {
    process.off('SIGINT', leave).off('SIGTERM', leave)
    await stop()
    if (directory === undefined) rmSync(kept, { recursive: true, force: true })
    if (before === undefined) delete process.env.DOCKER_HOST
    else process.env.DOCKER_HOST = before
  }
}

async function start(directory) {
  say('Starting a Docker engine ...')
  const log = join(directory, 'log')
  writeFileSync(log, '')
  const output = openSync(log, 'a')
  const places = ['data', 'exec'].flatMap((one) => [`--${one}-root`, join(directory, one)])
  const apart = ['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false']
  const where = ['--pidfile', join(directory, 'pid'), '--host', process.env.DOCKER_HOST]
  const engine = spawn('dockerd', [...places, ...where, ...apart], {
    stdio: ['ignore', output, output],
    detached: true,
  })
  const isOver = () => engine.exitCode !== null || engine.signalCode !== null
  const stop = async () => {
    engine.kill('SIGTERM')
    if (!(await within(STOP_MS_MAX, isOver))) engine.kill('SIGKILL')
    await within(STOP_MS_MAX, isOver)
    unmount(directory)
  }
  if (await within(START_MS_MAX, () => isOver() || hasEngine())) if (!isOver()) return stop
  await stop()
  const said = existsSync(log) ? readFileSync(log, 'utf8').slice(-2000) : ''
  throw new SetupError(`The Docker engine did not start:\n${said}`)
}

async function within(ms, ask) {
  const deadline = Date.now() + ms
  while (!ask()) {
    if (Date.now() > deadline) return false
    await pause(100)
  }
  return true
}

/** What an engine that was killed left mounted. */
function unmount(directory) {
  const mounts = readFileSync('/proc/mounts', 'utf8').split('\n')
  const ours = mounts.map((line) => line.split(' ')[1] ?? '')
  const below = ours.filter((one) => one.startsWith(`${directory}/`))
  // Plain JavaScript of Node 18: what was mounted last comes off first.
  for (let at = below.pop(); at !== undefined; at = below.pop()) spawnSync('umount', ['-l', at])
}
