/**
 * `npm start` and `npm run sql` as a newcomer has them, through the project's own entry script.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, onTestFinished, test, vi } from 'vitest'
import { program } from '../support/debian.ts'
import { execute } from '../support/exec.ts'
import { waitFor } from '../support/wait.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const SLOWLY = { withinMs: 60_000 }

// A whole start, a failover and an end, on a machine that may be busy.
vi.setConfig({ testTimeout: 240_000 })

const RUN = join(ROOT, 'scripts/run.mjs')

async function listening(): Promise<{ server: Server; port: number }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return { server, port: typeof address === 'object' && address !== null ? address.port : 0 }
}

async function freePort(): Promise<number> {
  const { server, port } = await listening()
  await once(server.close(), 'close')
  return port
}

interface Demo {
  readonly env: NodeJS.ProcessEnv
  readonly httpPort: number
  /** Its temporary files, and nobody else's, are here. */
  readonly folder: string
  output(): string
  type(line: string): void
  signal(name: NodeJS.Signals): void
  readonly exitCode: Promise<number>
}

const psql = program('psql')

function start(port: number, httpPort: number): Demo {
  const ports = { PGSTEER_DEMO_PORT: String(port), PGSTEER_DEMO_HTTP_PORT: String(httpPort) }
  const folder = mkdtempSync(join(tmpdir(), 'start-'))
  chmodSync(folder, 0o755)
  // The guide names psql where there is one.
  const path = `${dirname(psql.file)}:${process.env['PATH']}`
  const env = { ...process.env, ...ports, TMPDIR: folder, PATH: path }
  const child = spawn(process.execPath, [RUN, 'src/demo/main.ts'], { cwd: ROOT, env })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => {
      output += text.toString()
    })
  onTestFinished(() => {
    child.kill('SIGTERM')
    rmSync(folder, { recursive: true, force: true })
  })
  return {
    env,
    folder,
    httpPort,
    output: () => output,
    type: (line) => child.stdin.write(`${line}\n`),
    signal: (name) => child.kill(name),
    exitCode: once(child, 'exit').then(([code]: unknown[]) => Number(code)),
  }
}

/** What the shell prints for one command line; the numbers of its last row first. */
async function sql(demo: Demo, text: string): Promise<{ output: string; port: number }> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [RUN, 'src/demo/sql.ts', '-c', text],
    {
      cwd: ROOT,
      env: demo.env,
    },
  )
  return { output: stdout, port: Number(/(\d+)\n(?:SELECT|INSERT) \(1 row\)/.exec(stdout)?.[1]) }
}

/** Ports by role as the last line that lists the members says. */
function members(demo: Demo): { primary: number; replicas: number[] } {
  const found = Array.from(demo.output().matchAll(/pg\d \((primary|replica), port (\d+)\)/g)).slice(
    -3,
  )
  const ports = (role: string): number[] =>
    found.filter(([, named]) => named === role).map(([, , port]) => Number(port))
  return { primary: ports('primary')[0] ?? 0, replicas: ports('replica') }
}

test('shows reads on replicas and writes on the primary, survives its loss, and leaves nothing behind', async () => {
  const demo = start(await freePort(), await freePort())
  await waitFor('the guide', () => demo.output().includes('Nothing stays behind'), SLOWLY)
  const first = members(demo)
  expect(first.replicas).toHaveLength(2)
  expect(first.replicas).toContain((await sql(demo, 'select inet_server_port()')).port)
  const insert = "insert into visits (note) values ('x') returning inet_server_port()"
  expect((await sql(demo, insert)).port).toBe(first.primary)
  const metrics = await fetch(`http://127.0.0.1:${demo.httpPort}/metrics`)
  expect(await metrics.text()).toContain('pgsteer_build_info')

  const [, url = ''] = /psql (postgres:\S+)/.exec(demo.output()) ?? []
  const shell = await execute(psql, [url, '-X', '-A', '-t', '-c', 'select current_user'])
  expect([shell.errors, shell.output]).toEqual(['', 'demo\n'])

  demo.type('k')
  await waitFor('the promotion', () => /Promoted pg\d/.test(demo.output()), SLOWLY)
  const afterwards = await sql(demo, insert)
  await waitFor(
    'the return of the old primary',
    () => demo.output().includes('is back as a replica'),
    SLOWLY,
  )
  const second = members(demo)
  expect(second.primary).not.toBe(first.primary)
  expect(afterwards.port).toBe(second.primary)
  expect((await sql(demo, 'select count(*) from visits')).output).toMatch(/^\s*2$/m)

  const [, pid = ''] = /kill -USR2 (\d+)/.exec(demo.output()) ?? []
  process.kill(Number(pid), 'SIGUSR2')
  const returned = (): number => demo.output().split('is back as a replica').length - 1
  await waitFor('the second one', () => returned() === 2, SLOWLY)
  expect((await sql(demo, insert)).port).toBe(members(demo).primary)
  expect((await sql(demo, 'select count(*) from visits')).output).toMatch(/^\s*3$/m)

  demo.type('q')
  expect(await demo.exitCode).toBe(0)
  expect(readdirSync(demo.folder)).toEqual([])
})

test('says what to do when a port is taken', async () => {
  const { server, port } = await listening()
  onTestFinished(() => {
    server.close()
  })
  const demo = start(port, await freePort())
  expect(await demo.exitCode).toBe(1)
  expect(demo.output()).toContain(`Port ${port} on 127.0.0.1 cannot be had`)
  expect(demo.output()).toContain(`PGSTEER_DEMO_PORT=${port + 1} npm start`)
})

test('SIGTERM while it starts ends it, and everything that it had started', async () => {
  const demo = start(await freePort(), await freePort())
  await waitFor('the start', () => demo.output().includes('Starting one primary'), SLOWLY)
  demo.signal('SIGTERM')
  expect(await demo.exitCode).toBe(0)
  await waitFor('the files to go', () => readdirSync(demo.folder).length === 0, SLOWLY)
})
