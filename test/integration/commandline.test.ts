/** The command line: PgBouncer's flags and our verbs, their output and exit codes, as programs see them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { execute, type RunOptions } from '../support/exec.ts'
import { freePort } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const CLI = resolve(import.meta.dirname, '../../src/cli.ts')
const PGSTEER = { file: process.execPath, args: [CLI], env: {} }

let folder: string
const pids: number[] = []

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'pgsteer-cli-')))
  chmodSync(folder, 0o777)
})
afterEach(async () => {
  for (const pid of pids.splice(0)) if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

function file(text: string, name = 'pgsteer.ini'): string {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}

function pgsteer(parameters: readonly string[], options: RunOptions = {}) {
  return execute(PGSTEER, parameters, options)
}

/** A configuration with a server that nobody reaches. */
async function usable(keys = ''): Promise<{ path: string; port: number }> {
  const port = await freePort()
  const path = file(
    `[databases]\napp = host=127.0.0.1 port=1 user=u password=hush1\n[pgbouncer]\nlisten_addr = 127.0.0.1\n` +
      `listen_port = ${port}\nunix_socket_dir =\nauth_type = trust\nauth_file = users\n${keys}\n[pgsteer]\nhttp_port = ${await freePort()}\n`,
  )
  file('"u" "hush2"\n', 'users')
  return { path, port }
}

/** Starts it and keeps what it says. */
function start(
  parameters: readonly string[],
  env: Readonly<Record<string, string>> = {},
): { child: ChildProcess; said: () => string } {
  let output = ''
  const child = spawn(process.execPath, [CLI, ...parameters], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => {
      output += text.toString()
    })
  pids.push(child.pid ?? 0)
  return { child, said: () => output }
}

async function listening(port: number): Promise<void> {
  await waitFor('it listens', async () => {
    const socket = connect({ port, host: '127.0.0.1' })
    const isOpen = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'error').then(() => false),
    ])
    socket.destroy()
    return isOpen
  })
}

async function end(child: ChildProcess): Promise<number | null> {
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  await ended
  return child.exitCode
}

describe('without a start', () => {
  test.each(['-V', '--version'])('%s names the version', async (flag) => {
    const { version } = JSON.parse(readFileSync(resolve(CLI, '../../package.json'), 'utf8')) as {
      version: string
    }
    expect(await pgsteer([flag])).toEqual({ code: 0, output: `pgsteer ${version}\n`, errors: '' })
  })

  test.each(['-h', '--help'])('%s names every flag of PgBouncer that there is', async (flag) => {
    const { code, output } = await pgsteer([flag])
    expect(code).toBe(0)
    for (const one of ['-d, --daemon', '-q, --quiet', '-v, --verbose', '-u, --user', '-V,', '-h,'])
      expect(output).toContain(one)
  })

  test('no file, two files and unknown flags are wrong use', async () => {
    for (const parameters of [[], ['a.ini', 'b.ini'], ['--nonsense']]) {
      const { code, output, errors } = await pgsteer(parameters)
      expect([code === 0, output, errors === '']).toEqual([false, '', false])
    }
  })
})

describe('check', () => {
  test('-q says only what is wrong', async () => {
    const { path } = await usable()
    expect(await pgsteer(['-q', 'check', path])).toMatchObject({ code: 0, output: '', errors: '' })
    const { path: wrong } = await usable('pool_mode = always')
    const { code, output, errors } = await pgsteer(['check', '-q', wrong])
    expect({ code, output }).toEqual({ code: 1, output: '' })
    expect(errors).toContain('always')
  })

  test('prints what holds, with defaults and without secrets', async () => {
    const { path, port } = await usable()
    const { code, output, errors } = await pgsteer(['check', path])
    expect([code, errors]).toEqual([0, ''])
    expect(output).toContain(`listen_port = ${port}`)
    expect(output).toMatch(/^pool_mode = session/m)
    expect(output).not.toMatch(/hush/)
  })

  test('takes the environment, and secrets from files that it names', async () => {
    const { path } = await usable()
    const secret = file('hush3\n', 'secret')
    const { code, output } = await pgsteer(['check', path], {
      env: {
        PGSTEER_POOL_MODE: 'statement',
        PGSTEER_CLUSTER_SOURCE: 'static',
        PGSTEER_CLUSTER_HOSTS: 'pg1:5432',
        PGSTEER_CLUSTER_PROBE_USER: 'prober',
        PGSTEER_CLUSTER_PROBE_PASSWORD_FILE: secret,
      },
    })
    expect(code).toBe(0)
    expect(output).toMatch(/^pool_mode = statement/m)
    expect(output).toMatch(/^source = static/m)
    expect(output).toMatch(/^probe_user = prober/m)
    expect(output).not.toMatch(/hush/)
  })

  test('what it prints can be used as a file again', async () => {
    const { path } = await usable()
    const { output } = await pgsteer(['check', path])
    const again = await pgsteer(['check', file(output, 'again.ini')])
    expect([again.code, again.errors.match(/unknown|wrong/)]).toEqual([0, null])
  })

  test('names every problem with its file and line, and the nearest key', async () => {
    const path = file(
      '[databases]\n* = host=x\n[pgbouncer]\npool_mod = session\nlisten_port = many\n',
    )
    const { code, output, errors } = await pgsteer(['check', path])
    expect([code, output]).toEqual([1, ''])
    expect(errors).toMatch(/pgsteer\.ini:4: unknown key "pool_mod".*did you mean pool_mode\?/)
    expect(errors).toMatch(/pgsteer\.ini:5: .*listen_port/)
  })

  test('warns once of the keys that have no effect', async () => {
    const { path } = await usable('syslog = 1\npkt_buf = 8192')
    const { code, errors } = await pgsteer(['check', path])
    expect(code).toBe(0)
    expect(errors.match(/warning/g)).toHaveLength(1)
    expect(errors).toMatch(/syslog/)
    expect(errors).toMatch(/pkt_buf/)
  })

  test('finds certificates and HBA files that cannot be used', async () => {
    const { path } = await usable(
      'client_tls_sslmode = require\nclient_tls_cert_file = no.crt\nclient_tls_key_file = no.key',
    )
    const { code, errors } = await pgsteer(['check', path])
    expect(code).toBe(1)
    expect(errors).toMatch(/no\.(crt|key)/)
  })
})

describe('a start', () => {
  test('with a file that cannot be used ends with 1 and says why', async () => {
    const { code, errors } = await pgsteer([file('[pgbouncer]\npool_mode = fast\n')])
    expect(code).toBe(1)
    expect(errors).toMatch(/pgsteer\.ini:2: .*pool_mode/)
  })

  test('on an address that is taken ends with 1 and names it', async () => {
    const { path, port } = await usable()
    const server = createServer().listen({ port, host: '127.0.0.1' })
    await once(server, 'listening')
    const { code, output, errors } = await pgsteer([path])
    server.close()
    expect(code).toBe(1)
    expect(output + errors).toContain(String(port))
  })

  test('-q logs errors only, SIGTERM ends it with 0', async () => {
    const { path, port } = await usable()
    const { child, said } = start(['-q', path])
    await listening(port)
    expect(await end(child)).toBe(0)
    expect(said()).toBe('')
  })

  test('-v logs more than nothing said, in lines of JSON without secrets', async () => {
    const { path, port } = await usable()
    const { child, said } = start(['-v', '-v', path])
    await listening(port)
    expect(await end(child)).toBe(0)
    const lines = said().trim().split('\n')
    for (const line of lines) expect(() => void JSON.parse(line)).not.toThrow()
    expect(lines.length).toBeGreaterThan(1)
    expect(said()).not.toMatch(/hush/)
  })

  test('log_format = pretty writes for people, from every process', async () => {
    const { path, port } = await usable()
    const { child, said } = start([path], { PGSTEER_LOG_FORMAT: 'pretty' })
    await listening(port)
    await waitFor('its lines', () => /listening/.test(said()))
    expect(await end(child)).toBe(0)
    expect(said()).toMatch(/INFO.*: listening/)
    expect(said()).not.toMatch(/^\{/m)
  })

  test('-d needs a log file, then runs in the background with a pid file', async () => {
    const { path } = await usable()
    const refused = await pgsteer(['-d', path])
    expect(refused.code).toBe(1)
    expect(refused.errors).toMatch(/logfile/)
    const [log, pidfile] = [join(folder, 'log'), join(folder, 'pid')]
    const background = await usable(`logfile = ${log}\npidfile = ${pidfile}`)
    const started = await pgsteer(['-d', background.path])
    expect(started.code).toBe(0)
    await listening(background.port)
    const pid = Number(readFileSync(pidfile, 'utf8'))
    pids.push(pid)
    expect(started.output).toContain(String(pid))
    await waitFor('its log', () => /listening/.test(readFileSync(log, 'utf8')))
    process.kill(pid, 'SIGTERM')
    await waitFor('its end', () => !existsSync(`/proc/${pid}`), { withinMs: 20_000 })
    expect(existsSync(pidfile)).toBe(false)
  })

  test('-u gives up the rights of root', async () => {
    const { path, port } = await usable()
    const { child } = start(['-q', '-u', 'nobody', path])
    await listening(port)
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
    expect(/^Uid:\s+(\d+)\s+(\d+)/m.exec(status)?.slice(1)).not.toContain('0')
    expect(/^Groups:(.*)$/m.exec(status)?.[1]?.trim()).not.toMatch(/(^| )0( |$)/)
    expect(await end(child)).toBe(0)
  })
})

test('health says with its exit code whether a pgsteer is ready', async () => {
  const { code, errors } = await pgsteer(['health', `http://127.0.0.1:${await freePort()}/livez`])
  expect(code).toBe(1)
  expect(errors).not.toBe('')
  const { path, port } = await usable()
  const http = Number(/http_port = (\d+)/.exec(readFileSync(path, 'utf8'))?.[1])
  const { child } = start(['-q', path])
  await listening(port)
  const alive = await waitFor('it is alive', async () => {
    const ran = await pgsteer(['health', `http://127.0.0.1:${http}/livez`])
    return ran.code === 0 ? ran : undefined
  })
  expect(alive.errors).toBe('')
  expect(await end(child)).toBe(0)
})
