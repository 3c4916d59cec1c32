/**
 * The Debian packages that tests and benchmarks run against. With root they are installed by
 * apt-get, without their services being started; without root they are fetched with an apt state of
 * our own and unpacked into .cache/debian/root, where test/support/debian.ts finds them.
 */
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { ROOT, SetupError, say } from './setup.mjs'

const CACHE = join(ROOT, '.cache/debian')
const UNPACKED = join(CACHE, 'root')

/** A file of each package, below one of the roots, proves that it is there. */
const PACKAGES = {
  'postgresql-15': 'usr/lib/postgresql/15/bin/postgres',
  'postgresql-client-15': 'usr/lib/postgresql/15/bin/psql',
  patroni: 'usr/bin/patroni',
  'python3-etcd': 'usr/lib/python3/dist-packages/etcd/__init__.py',
  'etcd-server': 'usr/bin/etcd',
  'etcd-client': 'usr/bin/etcdctl',
  pgbouncer: 'usr/sbin/pgbouncer',
  haproxy: 'usr/sbin/haproxy',
  prometheus: 'usr/bin/promtool',
  'prometheus-alertmanager': 'usr/bin/amtool',
  'python3-psycopg': 'usr/lib/python3/dist-packages/psycopg/__init__.py',
  'python3-sqlalchemy': 'usr/lib/python3/dist-packages/sqlalchemy/__init__.py',
  openssl: 'usr/bin/openssl',
  shellcheck: 'usr/bin/shellcheck',
}
/** What only suites with root use. */
const ROOT_PACKAGES = {
  debootstrap: 'usr/sbin/debootstrap',
  'dnsmasq-base': 'usr/sbin/dnsmasq',
  iproute2: 'usr/sbin/ip',
  procps: 'usr/bin/pkill',
}

/**
 * Debian 13 as a directory, for its Patroni 4: only root can enter it. Outside of
 * the checkout, because a minute per clone is a minute too much.
 */
export const TRIXIE = '/var/cache/pgsteer/trixie'
const TRIXIE_PACKAGES = [
  'patroni',
  'postgresql-17',
  'etcd-server',
  'etcd-client',
  'python3-etcd',
  'python3-psycopg2',
  'python3-apscheduler',
  'python3-prometheus-client',
  'pgbackrest',
  'curl',
  'ca-certificates',
  'iproute2',
]

export const isRoot = process.getuid?.() === 0

export function provision() {
  installMissing(isRoot ? { ...PACKAGES, ...ROOT_PACKAGES } : PACKAGES)
  if (isRoot) provisionTrixie()
  provisionDockerTools()
}

/** `wanted`: a file of each package that proves that it is there. */
export function installMissing(wanted) {
  const missing = Object.keys(wanted).filter((name) => !isThere(wanted[name]))
  if (missing.length > 0) {
    if (!existsSync('/usr/bin/apt-get'))
      throw new SetupError(
        `The tests need Debian's ${missing.join(', ')} and there is no apt-get here.`,
      )
    say(`Fetching Debian packages: ${missing.join(' ')} ...`)
    if (isRoot) installWithRoot(missing)
    else unpackWithoutRoot(missing)
    const still = missing.filter((name) => !isThere(wanted[name]))
    if (still.length > 0) throw new SetupError(`apt-get did not provide ${still.join(', ')}.`)
  }
}

function isThere(path) {
  return existsSync(join('/', path)) || existsSync(join(UNPACKED, path))
}

/** Services of packages start on installation unless this file says no; a machine's own file is left alone. */
const POLICY = '/usr/sbin/policy-rc.d'

function installWithRoot(packages) {
  const ours = !existsSync(POLICY)
  if (ours) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    run('apt-get', ['update', '-qq'])
    run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages])
  } finally {
    if (ours) rmSync(POLICY, { force: true })
  }
}

function unpackWithoutRoot(packages) {
  for (const folder of ['state/lists/partial', 'cache/archives/partial', 'root'])
    mkdirSync(join(CACHE, folder), { recursive: true })
  const options = [
    `Dir::State=${join(CACHE, 'state')}`,
    'Dir::State::status=/var/lib/dpkg/status',
    `Dir::Cache=${join(CACHE, 'cache')}`,
    'Debug::NoLocking=true',
  ].flatMap((option) => ['-o', option])
  run('apt-get', [...options, 'update', '-qq'])
  run('apt-get', [
    ...options,
    'install',
    '-y',
    '-qq',
    '--no-install-recommends',
    '--download-only',
    ...packages,
  ])
  const archives = join(CACHE, 'cache/archives')
  for (const name of readdirSync(archives).filter((file) => file.endsWith('.deb')))
    run('dpkg', ['-x', join(archives, name), UNPACKED])
  for (const folder of ['javascript', 'nodejs', 'doc', 'man', 'locale', 'i18n'])
    rmSync(join(UNPACKED, 'usr/share', folder), { recursive: true, force: true })
  for (const folder of ['cache', 'state']) rmSync(join(CACHE, folder), { recursive: true })
}

function provisionTrixie() {
  if (existsSync(join(TRIXIE, '.complete'))) {
    completeTrixie()
    return
  }
  say('Making a Debian 13 directory for Patroni 4 (once, about a minute) ...')
  const unfinished = `${TRIXIE}.new`
  for (const folder of [TRIXIE, unfinished]) rmSync(folder, { recursive: true, force: true })
  mkdirSync(unfinished, { recursive: true })
  const mirror = mirrorOfMachine()
  run('debootstrap', [
    '--variant=minbase',
    `--include=${TRIXIE_PACKAGES.join(',')}`,
    'trixie',
    unfinished,
    ...(mirror === undefined ? [] : [mirror]),
  ])
  rmSync(join(unfinished, 'var/cache/apt/archives'), { recursive: true, force: true })
  writeFileSync(join(unfinished, '.complete'), '')
  renameSync(unfinished, TRIXIE)
}

/** What only benchmarks run against: another pooler that splits reads, and the counter of system calls. */
const BENCH_PACKAGES = { pgpool2: 'usr/sbin/pgpool', 'linux-perf': 'usr/bin/perf' }
/**
 * PgBouncer of Debian's next release with all that it links to, unpacked: Debian 12's knows no
 * prepared statements in transaction mode. Not in the checkout with root, because it runs as another
 * account, which may not be able to read that. bench/pgbouncer.ts finds it.
 */
export const NEWEST_PGBOUNCER = join(isRoot ? '/var/cache/pgsteer' : CACHE, 'pgbouncer')

export function provisionBench() {
  installMissing(BENCH_PACKAGES)
  if (existsSync(NEWEST_PGBOUNCER)) return
  say('Fetching the newest PgBouncer of Debian ...')
  // An empty list of installed packages makes apt fetch every library that it needs.
  const status = join(CACHE, 'none')
  mkdirSync(CACHE, { recursive: true })
  writeFileSync(status, '')
  const install = ['install', '-y', '-qq', '--no-install-recommends', '--download-only']
  const more = [`Dir::State::status=${status}`]
  unpackFrom('forky', NEWEST_PGBOUNCER, { command: [...install, 'pgbouncer'], more })
}

/**
 * Debian 13's docker and docker-compose, unpacked: Debian 12's are older than `docker stack config`
 * and the compose plugin. test/support/docker.ts prefers the machine's own.
 */
const DOCKER_TOOLS = join(CACHE, 'docker')

function provisionDockerTools() {
  if (existsSync(DOCKER_TOOLS) || (isDockerWord('stack config') && isDockerWord('compose version')))
    return
  say('Fetching Debian 13 packages: docker-cli docker-compose ...')
  unpackFrom('trixie', DOCKER_TOOLS, {
    command: ['download', '-qq', 'docker-cli', 'docker-compose'],
  })
}

/** Unpacks what apt-get's `command` fetches of that release of Debian; the machine's own packages stay as they are. */
function unpackFrom(release, target, { command, more = [] }) {
  const unfinished = `${target}.new`
  rmSync(unfinished, { recursive: true, force: true })
  for (const folder of ['state/lists/partial', 'cache/archives/partial', 'sources', 'root'])
    mkdirSync(join(unfinished, folder), { recursive: true })
  const keys = '/usr/share/keyrings/debian-archive-keyring.gpg'
  const signed = existsSync(keys) ? `[signed-by=${keys}] ` : ''
  const mirror = mirrorOfMachine() ?? 'http://deb.debian.org/debian'
  writeFileSync(join(unfinished, 'sources.list'), `deb ${signed}${mirror} ${release} main\n`)
  const options = [
    `Dir::State=${join(unfinished, 'state')}`,
    `Dir::Cache=${join(unfinished, 'cache')}`,
    `Dir::Etc::sourcelist=${join(unfinished, 'sources.list')}`,
    `Dir::Etc::sourceparts=${join(unfinished, 'sources')}`,
    'Debug::NoLocking=true',
    ...more,
  ].flatMap((option) => ['-o', option])
  run('apt-get', [...options, 'update', '-qq'])
  run('apt-get', [...options, ...command], unfinished)
  for (const folder of [unfinished, join(unfinished, 'cache/archives')])
    for (const name of readdirSync(folder).filter((file) => file.endsWith('.deb')))
      run('dpkg', ['-x', join(folder, name), join(unfinished, 'root')])
  renameSync(join(unfinished, 'root'), target)
  rmSync(unfinished, { recursive: true })
}

/** Docker shows the help of what is above a word that it does not know. */
function isDockerWord(words) {
  const { stdout } = spawnSync('docker', [...words.split(' '), '--help'], { encoding: 'utf8' })
  return (stdout ?? '').includes(`docker ${words}`)
}

/** Installs what the list above has got since the directory was made. */
function completeTrixie() {
  const has = (name) => existsSync(join(TRIXIE, 'var/lib/dpkg/info', `${name}.list`))
  const missing = TRIXIE_PACKAGES.filter((name) => !has(name))
  if (missing.length === 0) return
  say(`Adding to the Debian 13 directory: ${missing.join(' ')} ...`)
  run('chroot', [TRIXIE, 'apt-get', 'update', '-qq'])
  run('chroot', [TRIXIE, 'apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...missing])
}

/**
 * Where this machine has its main Debian packages from, in whichever file it says so. What is made
 * from Debian 13 on another distribution cannot come from that one's mirror.
 */
export function mirrorOfMachine() {
  const release = '/etc/os-release'
  if (existsSync(release) && !/^ID="?debian"?$/m.test(readFileSync(release, 'utf8')))
    return undefined
  const format = '$(REPO_URI) $(CODENAME)'
  const parameters = ['indextargets', '--format', format, 'Created-By: Packages']
  const { stdout } = spawnSync('apt-get', parameters, { encoding: 'utf8' })
  const lines = (stdout ?? '').split('\n').map((line) => line.split(' '))
  return lines.find(([, codename]) => /^[a-z]+$/.test(codename ?? ''))?.[0]
}

function run(file, parameters, cwd = ROOT) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' }
  const { status, stdout, stderr } = spawnSync(file, parameters, {
    cwd,
    encoding: 'utf8',
    env,
    maxBuffer: 64 << 20,
  })
  if (status === 0) return
  const output = `${stdout ?? ''}${stderr ?? ''}`.slice(-4000)
  throw new SetupError(`${file} ${parameters.join(' ')} failed (${status}):\n${output}`)
}
