/**
 * Makes a fresh checkout runnable: the npm packages of the lockfile, and the Node version that the
 * project is pinned to, which comes as the npm package `node`. Plain JavaScript for Node 18 and newer,
 * with nothing but Node's own modules, because it runs before anything is installed.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export const ROOT = resolve(fileURLToPath(import.meta.url), '../..')
export const BIN = join(ROOT, 'node_modules/.bin')
const LOCK = join(ROOT, '.cache/installing')
const INSTALL_MS_MAX = 600_000

/** Says what is going on; on the error channel, so that output stays the program's own. */
export function say(text) {
  process.stderr.write(`${text}\n`)
}

/** A failure that the person at the terminal can act on: its text is all there is to show. */
export class SetupError extends Error {}

/**
 * Installs what the lockfile names where it is missing or of another version; returns the path of
 * the pinned Node.
 */
export async function setUp() {
  if (!isInstalled()) await alone(install)
  const node = pinnedNode()
  if (node !== undefined) return node
  await alone(installNode)
  const installed = pinnedNode()
  if (installed !== undefined) return installed
  throw new SetupError(
    `The npm package 'node' (${wantedVersion()}) did not install. npm may have been told to run no ` +
      `install scripts; try: npm rebuild node --ignore-scripts=false --foreground-scripts`,
  )
}

/** True when node_modules holds the versions of the lockfile, optional packages aside that are not for this platform. */
function isInstalled() {
  const wanted = packagesOf(join(ROOT, 'package-lock.json'))
  const present = packagesOf(join(ROOT, 'node_modules/.package-lock.json'))
  if (present === undefined) return false
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === '') return true
    const found = present[path]
    return found === undefined ? optional === true : found.version === version
  })
}

function packagesOf(file) {
  if (!existsSync(file)) return undefined
  return JSON.parse(readFileSync(file, 'utf8')).packages
}

function wantedVersion() {
  return JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).devDependencies.node
}

function pinnedNode() {
  for (const path of [join(BIN, 'node'), join(ROOT, '.cache/node/bin/node')]) {
    if (!existsSync(path)) continue
    const { stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' })
    if (stdout?.trim() === `v${wantedVersion()}`) return path
  }
  return undefined
}

async function install() {
  if (isInstalled()) return
  say('Installing npm packages (the first time, this takes a minute or less) ...')
  await npm(['ci', '--no-audit', '--no-fund', '--loglevel=error'], 'npm ci')
}

async function installNode() {
  if (pinnedNode() !== undefined) return
  say(`Installing Node ${wantedVersion()} from the npm registry ...`)
  await npm(['rebuild', 'node', '--ignore-scripts=false', '--loglevel=error'], 'npm rebuild node')
}

/** Runs npm with a line every few seconds; its own output is shown when it fails. */
async function npm(parameters, what) {
  const started = Date.now()
  const child = spawn('npm', parameters, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text) => {
      output = (output + text).slice(-8000)
    })
  const progress = setInterval(
    () => say(`  ... ${Math.round((Date.now() - started) / 1000)} s`),
    5000,
  )
  const deadline = setTimeout(() => child.kill(), INSTALL_MS_MAX)
  const code = await new Promise((done) => {
    child.once('error', () => done('npm is not on the PATH'))
    child.once('close', done)
  })
  clearInterval(progress)
  clearTimeout(deadline)
  if (code !== 0) throw new SetupError(`${what} failed (${code}):\n${output}`)
}

/** Two commands started at once in one checkout install once: the lock file holds who does it. */
async function alone(work) {
  mkdirSync(join(ROOT, '.cache'), { recursive: true })
  while (!locked()) {
    if (!isAlive(Number(readIfThere(LOCK)))) rmSync(LOCK, { force: true })
    await pause(200)
  }
  process.once('exit', unlock).once('SIGINT', leave).once('SIGTERM', leave)
  try {
    await work()
  } finally {
    process.off('exit', unlock).off('SIGINT', leave).off('SIGTERM', leave)
    unlock()
  }
}

function unlock() {
  rmSync(LOCK, { force: true })
}

function locked() {
  try {
    writeFileSync(LOCK, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
    return false
  }
}

function readIfThere(file) {
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}

function isAlive(pid) {
  try {
    return pid > 0 && process.kill(pid, 0)
  } catch (error) {
    return error.code === 'EPERM'
  }
}

function leave() {
  process.exit(130)
}

/** The environment in which `node` and the project's tools are the pinned ones. */
export function environment(node) {
  return { ...process.env, PATH: `${resolve(node, '..')}:${BIN}:${process.env.PATH ?? ''}` }
}

/**
 * Runs a program in the foreground and resolves with its exit code. Signals to us become its own,
 * or the signal that ends it where it listens to no other; with `ipc` it ends when we do, however
 * that is, because the channel between us closes then.
 */
export async function run(file, parameters, options = {}) {
  const { env, ipc = false, cwd = ROOT, ending = 'SIGTERM' } = options
  const stdio = ipc ? ['inherit', 'inherit', 'inherit', 'ipc'] : 'inherit'
  const child = spawn(file, parameters, { cwd, env, stdio })
  // The terminal sends SIGINT to the child as well: ours only has to wait for its end.
  const terminate = () => child.kill(ending)
  process.on('SIGINT', ignore).on('SIGTERM', terminate).on('SIGHUP', terminate)
  const parent = process.ppid
  const orphan = setInterval(() => {
    if (process.ppid !== parent) terminate()
  }, 1000).unref()
  const [code, signal] = await new Promise((done, fail) => {
    child.once('error', fail)
    child.once('exit', (...how) => done(how))
  })
  clearInterval(orphan)
  process.off('SIGINT', ignore).off('SIGTERM', terminate).off('SIGHUP', terminate)
  return code ?? 128 + (constants.signals[signal] ?? 0)
}

function ignore() {}

/** The frame of every entry script: exits with what `work` returns, shows what went wrong in one line. */
export async function main(work) {
  try {
    process.exitCode = await work()
  } catch (error) {
    say(error instanceof SetupError ? error.message : error.stack)
    process.exitCode = 1
  }
}

// By itself: installs and says nothing else.
if (process.argv[1] === fileURLToPath(import.meta.url))
  await main(async () => {
    await setUp()
    return 0
  })
