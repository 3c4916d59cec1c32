/**
 * The console as real clients see it: psql, node-postgres, postgres.js and psycopg 3, each with the
 * protocol it speaks.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Client } from 'pg'
import postgres from 'postgres'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fakeActions } from '../support/actions.ts'
import { startConsole, type TestConsole } from '../support/console.ts'
import { program, python } from '../support/debian.ts'

const run = promisify(execFile)
let console: TestConsole

beforeAll(async () => {
  console = await startConsole(fakeActions())
})
afterAll(() => {
  console.close()
})

async function psql(sql: string, user = 'admin'): Promise<string> {
  const { file, args, env } = program('psql')
  const target = `host=127.0.0.1 port=${console.port} user=${user} dbname=pgbouncer sslmode=prefer`
  const options = [...args, '-X', '-A', '-F', '|', '-P', 'footer=off', '-c', sql, target]
  const { stdout, stderr } = await run(file, options, {
    env: { ...process.env, ...env },
    timeout: 20_000,
  }).catch((error: unknown) => error as { stdout: string; stderr: string })
  return `${stdout}${stderr}`.trim()
}

describe('psql', () => {
  it('prints views', async () => {
    expect(await psql('show version')).toBe('version\nPgBouncer 1.26.0 (pgsteer 0.1.0)')
    expect(await psql('SHOW STATE;')).toBe('key|value\nactive|yes\npaused|no\nsuspended|no')
    expect(await psql('show members')).toContain('pg3|10.1.0.3|5432|replica|running')
  })

  it('prints errors, notices and tags', async () => {
    expect(await psql('show nothing')).toBe(
      "ERROR:  invalid command 'show nothing', use SHOW HELP;",
    )
    expect(await psql('show help')).toContain('Console usage')
    expect(await psql('set max_client_conn = 120')).toBe('SET max_client_conn=120')
    expect(await psql('reload', 'stats')).toBe('ERROR:  admin access needed')
  })
})

async function connect(): Promise<Client> {
  const { port } = console
  const client = new Client({ host: '127.0.0.1', port, user: 'admin', database: 'pgbouncer' })
  await client.connect()
  return client
}

describe('node-postgres', () => {
  it('reads views by the simple and by the extended protocol', async () => {
    const client = await connect()
    const simple = await client.query('SHOW POOLS')
    const extended = await client.query({ text: 'SHOW POOLS', name: 'pools', values: [] })
    expect(simple.rows).toEqual(extended.rows)
    expect(simple.rows[0]).toMatchObject({ database: 'app', cl_active: 1, sv_idle: 4 })
    expect(simple.command).toBe('SHOW')
    await client.end()
  })

  it('is told that there are no parameters, and can go on', async () => {
    const client = await connect()
    await expect(client.query('SHOW POOLS', [1])).rejects.toMatchObject({ code: '0A000' })
    expect((await client.query('SHOW VERSION')).rows).toHaveLength(1)
    await client.end()
  })
})

it('postgres.js reads views by the extended protocol', async () => {
  const sql = postgres({
    host: '127.0.0.1',
    port: console.port,
    user: 'admin',
    database: 'pgbouncer',
    fetch_types: false,
    max: 1,
  })
  expect(await sql.unsafe('SHOW STATE')).toEqual([
    { key: 'active', value: 'yes' },
    { key: 'paused', value: 'no' },
    { key: 'suspended', value: 'no' },
  ])
  expect(await sql`SHOW VERSION`).toHaveLength(1)
  await sql.end()
})

it('psycopg 3 reads numbers in text and in binary', async () => {
  const script = `
import psycopg
with psycopg.connect("host=127.0.0.1 port=${console.port} user=admin dbname=pgbouncer", autocommit=True) as c:
    text = c.execute("SHOW STATS_TOTALS").fetchone()
    binary = c.cursor(binary=True).execute("SHOW STATS_TOTALS").fetchone()
    print(text == binary, text[3], text[7])
    print(c.cursor(binary=True).execute("SHOW MEMBERS").fetchall()[1][2:10])
`
  const { file, args, env } = python()
  const { stdout } = await run(file, [...args, '-c', script], {
    env: { ...process.env, ...env },
    timeout: 20_000,
  })
  expect(stdout.trim().split('\n')).toEqual([
    'True 10 25500',
    "(5432, 'replica', 'running', 3, 55368, 40, True, None)",
  ])
})
