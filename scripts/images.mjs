/**
 * The images of this project as tests use them, built for real from the Dockerfiles. Base images
 * that cannot be pulled have stand-ins from Debian 13 (debootstrap) and the npm package `node`;
 * other projects' images have stand-ins from Debian's packages (test/swarm/images). What is made is
 * called 127.0.0.1:1/NAME: nobody can pull that, or take it for what it stands for, by mistake.
 *
 *   node scripts/images.mjs FILE [NAME...]     builds these (all of them) into an archive
 *
 * Stand-ins of base images are kept in /var/cache/pgsteer.
 */
import { spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isOwnEngine, withEngine } from './engine.mjs'
import { installMissing, isRoot, mirrorOfMachine } from './provision.mjs'
import { BIN, main, ROOT, SetupError, say, setUp } from './setup.mjs'

const CACHE = '/var/cache/pgsteer'
const DEBIAN = 'debian:trixie-slim'
const PULL_MS_MAX = 120_000
const BUILD_MS_MAX = 900_000

const standIn = (name) => ({
  base: DEBIAN,
  argument: 'BASE',
  folder: 'test/swarm/images',
  parameters: ['--target', name],
})
const IMAGES = {
  pgsteer: {
    base: baseOf('Dockerfile'),
    argument: 'NODE_IMAGE',
    folder: '.',
    parameters: [],
  },
  node: {
    base: DEBIAN,
    argument: 'BASE',
    folder: 'deploy',
    parameters: '--file deploy/images/node/Dockerfile --build-arg PACKAGES=debian'.split(' '),
  },
  etcd: standIn('etcd'),
  prometheus: standIn('prometheus'),
  alertmanager: standIn('alertmanager'),
  'node-exporter': standIn('node-exporter'),
  'postgres-exporter': standIn('postgres-exporter'),
  grafana: standIn('grafana'),
}

export const tagOf = (name) => `127.0.0.1:1/${name}:test`

/**
 * Builds images (all of them unless they are named) and does the work while an engine at DOCKER_HOST
 * has them. On the machine's own engine nothing of them is left.
 */
export function withImages(names, work, directory) {
  return withEngine(async () => {
    try {
      for (const name of names ?? Object.keys(IMAGES)) build(name)
      return await work()
    } finally {
      if (!isOwnEngine()) removeMade()
    }
  }, directory)
}

function build(name) {
  const image = IMAGES[name]
  if (image === undefined) throw new SetupError(`There is no image ${name}.`)
  const base = `${image.argument}=${provideBase(image.base)}`
  say(`Building ${tagOf(name)} ...`)
  const parameters = ['build', '--network', 'host', '--tag', tagOf(name), '--build-arg', base]
  docker([...parameters, ...image.parameters, image.folder])
}

function removeMade() {
  const made = Object.entries(IMAGES).flatMap(([name, { base }]) => [tagOf(name), standInOf(base)])
  spawnSync('docker', ['rmi', '--force', ...new Set(made)])
}

/** Writes images that were built to an archive for `docker load`. */
export function saveImages(file, names = Object.keys(IMAGES)) {
  mkdirSync(dirname(file), { recursive: true })
  docker(['save', '--output', file, ...names.map(tagOf)])
}

/** Which Node the Dockerfile is pinned to. */
function baseOf(dockerfile) {
  const [, base] = /^ARG NODE_IMAGE=(.*)$/m.exec(readFileSync(join(ROOT, dockerfile), 'utf8')) ?? []
  if (base === undefined) throw new SetupError(`${dockerfile} names no base image.`)
  return base
}

/** Which image to build from: the base itself, or what stands for it. */
function provideBase(base) {
  const has = (tag) => docker(['images', '--quiet', tag]) !== ''
  if (has(base)) return base
  const made = standInOf(base)
  if (has(made)) return made
  const archive = archiveOf(base)
  // Where one has been made, an engine of our own could not pull before.
  if (!(isOwnEngine() && existsSync(archive)) && pull(base)) return base
  if (!existsSync(archive)) {
    if (!isRoot) throw new SetupError(`${base} cannot be pulled, and making it needs root.`)
    if (!existsSync(archiveOf(DEBIAN))) makeArchive(DEBIAN, makeDebian)
    if (base !== DEBIAN) makeArchive(base, addNode)
  }
  const variables = [
    'NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  ].flatMap((one) => ['--change', `ENV ${one}`])
  docker(['import', ...variables, archive, made])
  return made
}

function pull(base) {
  return spawnSync('docker', ['pull', '--quiet', base], { timeout: PULL_MS_MAX }).status === 0
}

const standInOf = (base) => `127.0.0.1:1/${base}`

function archiveOf(base) {
  return join(CACHE, `${base.replaceAll(/[:/]/g, '_')}.tar`)
}

function makeArchive(base, fill) {
  say(`Making ${base} from Debian 13 (once) ...`)
  mkdirSync(CACHE, { recursive: true })
  const archive = archiveOf(base)
  const root = mkdtempSync('/var/tmp/pgsteer-base-')
  try {
    fill(root)
    call('tar', ['-C', root, '-cf', `${archive}.new`, '.'])
    renameSync(`${archive}.new`, archive)
  } finally {
    rmSync(root, { recursive: true, force: true })
    rmSync(`${archive}.new`, { force: true })
  }
}

function makeDebian(root) {
  installMissing({ debootstrap: 'usr/sbin/debootstrap' })
  const mirror = mirrorOfMachine()
  const from = mirror === undefined ? [] : [mirror]
  call('debootstrap', ['--variant=minbase', 'trixie', root, ...from])
  // Whom this machine trusts, the build trusts.
  const certificates = '/etc/ssl/certs/ca-certificates.crt'
  if (existsSync(certificates)) cpSync(realpathSync(certificates), join(root, certificates))
  for (const folder of ['var/cache/apt/archives', 'var/lib/apt/lists'])
    rmSync(join(root, folder), { recursive: true, force: true })
}

function addNode(root) {
  call('tar', ['-C', root, '-xf', archiveOf(DEBIAN)])
  const found = spawnSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).stdout.trim()
  const npm = dirname(dirname(realpathSync(found)))
  const local = join(root, 'usr/local')
  cpSync(realpathSync(join(BIN, 'node')), join(local, 'bin/node'))
  cpSync(npm, join(local, 'lib/node_modules/npm'), { recursive: true, dereference: true })
  symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(local, 'bin/npm'))
}

/** What it printed; its output is shown when it fails. */
function docker(parameters) {
  return call('docker', parameters)
}

function call(file, parameters) {
  const { status, stdout, stderr } = spawnSync(file, parameters, {
    cwd: ROOT,
    encoding: 'utf8',
    timeout: BUILD_MS_MAX,
    maxBuffer: 64 << 20,
  })
  if (status === 0) return stdout.trim()
  const said = `${stdout ?? ''}${stderr ?? ''}`.slice(-6000)
  throw new SetupError(`${file} ${parameters.join(' ')} failed (${status}):\n${said}`)
}

if (resolve(process.argv[1] ?? '') === fileURLToPath(import.meta.url))
  await main(async () => {
    const [file, ...given] = process.argv.slice(2)
    if (file === undefined) throw new SetupError('usage: node scripts/images.mjs FILE [NAME...]')
    const names = given.length > 0 ? given : Object.keys(IMAGES)
    await setUp()
    await withImages(names, () => saveImages(resolve(file), names), '/var/tmp/pgsteer-engine')
    return 0
  })
