/**
 * The package that `npm pack` makes, installed as docs/install.md says and run by the command lines of
 * the systemd unit: only the two folders that it names are others.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const CHECKOUT = resolve(import.meta.dirname, '../..')
const UNIT = readFileSync(join(CHECKOUT, 'deploy/pgsteer.service'), 'utf8')
const PAGE = readFileSync(join(CHECKOUT, 'docs/install.md'), 'utf8')

let folder = ''
let port = 0
let httpPort = 0
let service: ChildProcess | null = null
let log = ''

const npm = (...parameters: readonly string[]): string =>
  execFileSync('npm', parameters, { cwd: CHECKOUT, encoding: 'utf8', env: npmEnvironment() })

/** Without what the npm that runs these tests tells its scripts. */
function npmEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^npm_(?:config_local|package|lifecycle)/.test(name),
    ),
  )
}

/** The command lines of one key of the unit, in the folders of this test. */
function commands(key: string): string[][] {
  const lines = UNIT.split('\n').filter((line) => line.startsWith(`${key}=`))
  return lines.map((line) =>
    line
      .slice(key.length + 1)
      .replaceAll('/opt/pgsteer', join(folder, 'opt'))
      .replaceAll('/etc/pgsteer', join(folder, 'etc'))
      .replaceAll('$MAINPID', String(service?.pid))
      .split(' '),
  )
}

function writeConfiguration(keys = ''): void {
  const lines = [
    '[databases]',
    'app = host=127.0.0.1 port=1',
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = trust',
    `auth_file = ${join(folder, 'etc/userlist.txt')}`,
    keys,
    '[pgsteer]',
    `http_port = ${httpPort}`,
  ]
  writeFileSync(join(folder, 'etc/pgsteer.ini'), `${lines.join('\n')}\n`)
}

function reload(): number | null {
  for (const [file = '', ...parameters] of commands('ExecReload')) {
    const { status } = spawnSync(file, parameters, { encoding: 'utf8' })
    if (status !== 0) return status
  }
  return 0
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pgsteer-install-'))
  mkdirSync(join(folder, 'etc'))
  writeFileSync(join(folder, 'etc/userlist.txt'), '"u" "hush"\n')
  port = await freePort()
  httpPort = await freePort()
  writeConfiguration()
  npm('pack', '--silent', '--pack-destination', folder)
  const archive = join(folder, `${archiveName()}.tgz`)
  npm('install', '--silent', '--global', '--prefix', join(folder, 'opt'), archive, nodePackage())
})
afterAll(() => {
  service?.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

function archiveName(): string {
  const { name: project, version } = JSON.parse(
    readFileSync(join(CHECKOUT, 'package.json'), 'utf8'),
  ) as { name: string; version: string }
  return `${project}-${version}`
}

/** The Node that the page says to install beside it. */
function nodePackage(): string {
  return /node@[\d.]+/.exec(PAGE)?.[0] ?? ''
}

test('the Node that the page names is the one that is tested', () => {
  const { devDependencies } = JSON.parse(readFileSync(join(CHECKOUT, 'package.json'), 'utf8')) as {
    devDependencies: Record<string, string>
  }
  expect(nodePackage()).toBe(`node@${devDependencies['node']}`)
})

test('the package holds the program, its documentation and what deploys it, and no source', () => {
  const root = join(folder, 'opt/lib/node_modules/pgsteer')
  for (const file of ['dist/cli.js', 'docs/configuration.md', 'deploy/pgsteer.service', 'LICENSE'])
    expect(existsSync(join(root, file)), file).toBe(true)
  for (const file of ['src', 'test', 'dist/demo', 'node_modules/vitest'])
    expect(existsSync(join(root, file)), file).toBe(false)
})

test('it runs, takes a reload, refuses one that is wrong, and stops with exit code 0', async () => {
  const [[file = '', ...parameters] = []] = commands('ExecStart')
  const started = spawn(file, parameters, { stdio: ['ignore', 'pipe', 'pipe'] })
  service = started
  for (const stream of [started.stdout, started.stderr])
    stream.on('data', (bytes: Buffer) => (log += bytes.toString()))
  const health = join(folder, 'opt/bin/pgsteer')
  await waitFor(
    'its health check',
    () =>
      spawnSync(health, ['health', `http://127.0.0.1:${httpPort}/livez`], bareEnvironment())
        .status === 0,
    { withinMs: 20_000, everyMs: 100 },
  )

  writeConfiguration('query_wait_timeout = 7')
  expect(reload()).toBe(0)
  await waitFor('the new value', () => /query_wait_timeout/.test(log))

  writeConfiguration('default_pool_size = many')
  expect(reload()).toBe(1)

  const ended = once(started, 'exit')
  started.kill('SIGTERM')
  expect(await ended).toEqual([0, null])
})

/** Where `env node` finds the Node that was installed beside it. */
function bareEnvironment(): { env: NodeJS.ProcessEnv } {
  return { env: { PATH: `${join(folder, 'opt/bin')}:/usr/bin:/bin` } }
}
