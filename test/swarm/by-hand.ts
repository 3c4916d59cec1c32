/**
 * The lab of the swarm suite for people: it stays up between commands. As root, with the Node of the project
 * (`node` is short for `node scripts/run.mjs` here):
 *
 *   node test/swarm/by-hand.ts up [N]           N machines (3) in one swarm, all of them managers
 *   node test/swarm/by-hand.ts images [NAME...] builds images (pgsteer, node, etcd, ...) and loads them
 *   node test/swarm/by-hand.ts load ARCHIVE     images of a `docker save` to every node
 *   node test/swarm/by-hand.ts docker I ...     a docker command on node I
 *   node test/swarm/by-hand.ts clients COMMAND  any command where clients are: psql -h node1 ...
 *   node test/swarm/by-hand.ts inside I COMMAND any command in the network of node I
 *   node test/swarm/by-hand.ts kill I | start I power off, power on
 *   node test/swarm/by-hand.ts cut I | heal I   cable out, cable in
 *   node test/swarm/by-hand.ts add              one machine more, a manager with the images
 *   node test/swarm/by-hand.ts suite [...]      the suite's tests (-t NAME: one of them) on this lab, which stays
 *   node test/swarm/by-hand.ts logs I           the end of what node I's engine logged
 *   node test/swarm/by-hand.ts down             ends all of it
 *
 * The engines' sockets can be used from anywhere:
 *
 *   export DOCKER_HOST=unix:///var/tmp/pgsteer-lab/node1/docker.sock
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isolated } from '../../scripts/isolation.mjs'
import { waitFor } from '../support/wait.ts'
import { Lab, removeCgroups } from './lab.ts'

const DIRECTORY = '/var/tmp/pgsteer-lab'
/** The process that keeps the namespaces, and how many nodes there are. */
const KEEPER = join(DIRECTORY, 'keeper')
const COUNT = join(DIRECTORY, 'count')
const SCRATCH = join(DIRECTORY, 'tmp')
const ARCHIVE = join(DIRECTORY, 'images.tar')

const [command = 'help', ...given] = process.argv.slice(2)
const isInside = process.env['PGSTEER_ISOLATED'] === 'yes'

function keeper(): number | undefined {
  const pid = existsSync(KEEPER) ? Number(readFileSync(KEEPER, 'utf8')) : 0
  return pid > 0 && existsSync(`/proc/${pid}`) ? pid : undefined
}

/** The first process in the keeper's namespaces. */
function firstOf(pid: number): string | undefined {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return children === '' ? undefined : children.split(' ')[0]
}

/** Runs a command in the namespaces of the lab; ends this process with its code. */
function enter(command_: readonly string[]): void {
  const pid = keeper()
  const first = pid === undefined ? undefined : firstOf(pid)
  if (first === undefined) throw new Error('no lab is up: node test/swarm/by-hand.ts up')
  const where = ['--target', first, '--net', '--mount', '--pid', '--ipc', `--wd=${process.cwd()}`]
  const env = { ...process.env, PGSTEER_ISOLATED: 'yes' }
  const { status } = spawnSync('nsenter', [...where, ...command_], { stdio: 'inherit', env })
  process.exitCode = status ?? 1
}

async function up(count: string): Promise<void> {
  if (keeper() !== undefined) throw new Error('a lab is up already')
  rmSync(DIRECTORY, { recursive: true, force: true })
  mkdirSync(SCRATCH, { recursive: true })
  const log = openSync(join(DIRECTORY, 'log'), 'a')
  const [file = '', ...parameters] = isolated(SCRATCH, ['sleep', 'infinity'])
  const stdio = ['ignore', log, log] as const
  const child = spawn(file, parameters, { stdio: [...stdio], detached: true })
  child.unref()
  writeFileSync(KEEPER, String(child.pid))
  writeFileSync(COUNT, count)
  // Its mounts come last: who enters before would have others.
  const isReady = () => {
    const first = firstOf(child.pid ?? 0)
    return first !== undefined && spawnSync('pgrep', ['-P', first, '-x', 'sleep']).status === 0
  }
  await waitFor('the namespaces', isReady)
  enter([process.execPath, import.meta.filename, 'up'])
}

async function down(): Promise<void> {
  const pid = keeper()
  if (pid !== undefined) {
    const first = firstOf(pid)
    process.kill(first === undefined ? pid : Number(first), 'SIGKILL')
    await waitFor('the end of the lab', () => !existsSync(`/proc/${pid}`))
  }
  removeCgroups(DIRECTORY)
  rmSync(DIRECTORY, { recursive: true, force: true })
}

/** What was built before is built anew where it changed. */
function images(): void {
  const builder = join(import.meta.dirname, '../../scripts/images.mjs')
  const { status } = spawnSync(process.execPath, [builder, ARCHIVE, ...given], { stdio: 'inherit' })
  if (status === 0) enter([process.execPath, import.meta.filename, 'load', ARCHIVE])
  else process.exitCode = 1
}

async function play(lab: Lab): Promise<void> {
  const [number = '0', ...more] = given
  switch (command) {
    case 'up':
      await lab.start()
      await lab.swarm()
      console.log(await lab.node(1).docker('node', 'ls'))
      return
    case 'load':
      return lab.load(number)
    case 'add':
      await lab.add(ARCHIVE)
      return writeFileSync(COUNT, String(lab.nodes.length))
    case 'kill':
    case 'start':
    case 'cut':
    case 'heal':
      return lab.node(Number(number))[command]()
    case 'logs':
      return console.log(lab.node(Number(number)).logs(200))
    case 'suite':
      return suite()
    case 'inside':
      return enterNode(number, more)
    default:
      throw new Error(`unknown command ${command}: see the head of ${import.meta.filename}`)
  }
}

/** The tests go on from what is there: a cluster in DIRECTORY/cluster-main, made by the first of them or by hand. */
function suite(): void {
  const vitest = join(import.meta.dirname, '../../node_modules/.bin/vitest')
  const env = { ...process.env, PGSTEER_LAB: DIRECTORY, PGSTEER_LAB_IMAGES: '' }
  const parameters = ['run', '--project', 'swarm', ...(given.length > 0 ? given : ['cluster'])]
  process.exitCode = spawnSync(vitest, parameters, { stdio: 'inherit', env }).status ?? 1
}

function enterNode(number: string, more: readonly string[]): void {
  const where = `--net=/run/netns/node${number}`
  const { status } = spawnSync('nsenter', [where, ...more], { stdio: 'inherit' })
  process.exitCode = status ?? 1
}

if (isInside) await play(new Lab(DIRECTORY, Number(readFileSync(COUNT, 'utf8'))))
else if (command === 'up') await up(given[0] ?? '3')
else if (command === 'down') await down()
else if (command === 'images') images()
else if (command === 'clients') enter(given)
else if (command === 'docker') {
  const [number = '1', ...more] = given
  const host = `unix://${DIRECTORY}/node${number}/docker.sock`
  const { status } = spawnSync('docker', ['--host', host, ...more], { stdio: 'inherit' })
  process.exitCode = status ?? 1
} else enter([process.execPath, import.meta.filename, command, ...given])
