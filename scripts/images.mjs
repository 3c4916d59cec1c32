/**
 * The images of this project as tests use them, built for real from the Dockerfiles. Base images
 * that cannot be pulled are made from Debian 13 (debootstrap) and the npm package `node`, under
 * the tags that are pinned; other projects' images have stand-ins from Debian's packages
 * (test/swarm/images). What is made is called 127.0.0.1:1/NAME:test: nobody can pull that by mistake.
 *
 *   node scripts/images.mjs FILE [NAME...]     builds these (all of them) into an archive
 *
 * Base images are kept in /var/cache/pgsteer.
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
import { withEngine } from './engine.mjs'
import { installMissing, mirrorOfMachine } from './provision.mjs'
import { BIN, main, ROOT, SetupError, say, setUp } from './setup.mjs'

const CACHE = '/var/cache/pgsteer'
const DEBIAN = 'debian:trixie-slim'
const PULL_MS_MAX = 120_000
const BUILD_MS_MAX = 900_000

const standIn = (name) => ({
  base: DEBIAN,
  folder: 'test/swarm/images',
  parameters: ['--target', name, '--build-arg', `BASE=${DEBIAN}`],
})
const IMAGES = {
  pgsteer: { base: baseOf('Dockerfile'), folder: '.', parameters: [] },
  node: {
    base: DEBIAN,
    folder: 'deploy',
    parameters: '--file deploy/images/node/Dockerfile --build-arg PACKAGES=debian'
      .split(' ')
      .concat('--build-arg', `BASE=${DEBIAN}`),
  },
  etcd: standIn('etcd'),
  prometheus: standIn('prometheus'),
  alertmanager: standIn('alertmanager'),
  'node-exporter': standIn('node-exporter'),
  'postgres-exporter': standIn('postgres-exporter'),
  grafana: standIn('grafana'),
}

export const tagOf = (name) => `127.0.0.1:1/${name}:test`

/** Builds them on the engine that DOCKER_HOST names; all of them unless they are named. */
export function buildImages(names = Object.keys(IMAGES)) {
  for (const name of names) {
    const image = IMAGES[name]
    if (image === undefined) throw new SetupError(`There is no image ${name}.`)
    provideBase(image.base)
    say(`Building ${tagOf(name)} ...`)
    const parameters = ['build', '--network', 'host', '--tag', tagOf(name), ...image.parameters]
    docker([...parameters, image.folder])
  }
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

function provideBase(base) {
  if (docker(['images', '--quiet', base]) !== '') return
  const archive = archiveOf(base)
  if (!existsSync(archive)) {
    const pulled = spawnSync('docker', ['pull', '--quiet', base], { timeout: PULL_MS_MAX })
    if (pulled.status === 0) return
    if (!existsSync(archiveOf(DEBIAN))) makeArchive(DEBIAN, makeDebian)
    if (base !== DEBIAN) makeArchive(base, addNode)
  }
  const variables = [
    'NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  ].flatMap((one) => ['--change', `ENV ${one}`])
  docker(['import', ...variables, archive, base])
}

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
    await withEngine(async () => {
      buildImages(names)
      saveImages(resolve(file), names)
    }, '/var/tmp/pgsteer-engine')
    return 0
  })
