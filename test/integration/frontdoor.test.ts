/**
 * The front door as libpq sees it: pgsteer as its own process before a real server, psql in front.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Authority, type Pair } from '../support/certificates.ts'
import { program } from '../support/debian.ts'
import { useCluster } from '../support/postgres.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const shared = useCluster({ replicas: 0 })
const directory = mkdtempSync(join(tmpdir(), 'pgsteer-front-'))
const authority = new Authority(join(directory, 'ca'))
const server = authority.issue({ commonName: 'localhost', names: 'DNS:localhost' })
const demo = authority.issue({ commonName: 'demo' })
const others = new Authority(join(directory, 'others'))

let child: ChildProcess | undefined
let port = 0
let output = ''

beforeAll(async () => {
  port = await freePort()
  const { primary } = shared.cluster
  await primary.query("CREATE ROLE asker LOGIN SUPERUSER PASSWORD 'asker'")
  writeFileSync(join(directory, 'userlist.txt'), '"asker" "asker"\n')
  writeFileSync(
    join(directory, 'hba.conf'),
    'hostssl all demo 127.0.0.2/32 cert\nhostssl all all 127.0.0.1/32 scram-sha-256\nhost all all all reject\n',
  )
  const file = join(directory, 'pgsteer.ini')
  writeFileSync(
    file,
    `[databases]
demo = host=127.0.0.1 port=${primary.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = hba
auth_hba_file = hba.conf
auth_file = userlist.txt
auth_user = asker
auth_dbname = demo
pool_mode = transaction
client_tls_sslmode = prefer
client_tls_cert_file = ${server.certFile}
client_tls_key_file = ${server.keyFile}
client_tls_ca_file = ${authority.caFile}
[pgsteer]
http_port = ${await freePort()}
`,
  )
  child = spawn(process.execPath, [resolve(import.meta.dirname, '../../src/cli.ts'), file], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  await waitFor('the front door', async () => {
    if (child?.exitCode !== null) throw new Error(output)
    const client = await WireClient.connect({ port })
    client.destroy()
    return true
  })
})

afterAll(async () => {
  if (child?.exitCode === null) {
    child.kill('SIGQUIT')
    await once(child, 'exit')
  }
  rmSync(directory, { recursive: true })
})

function keep(chunk: Buffer): void {
  output += chunk.toString()
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** What psql says to `select current_user`, or its complaint. */
function psql(options: string, password = 'demo'): string {
  const { file, args, env } = program('psql')
  const conninfo = `host=localhost hostaddr=127.0.0.1 port=${port} user=demo dbname=demo connect_timeout=10 ${options}`
  const sql = 'select current_user'
  const { stdout, stderr } = spawnSync(file, [...args, conninfo, '-XAtc', sql], {
    env: { ...process.env, ...env, PGPASSWORD: password },
    encoding: 'utf8',
    timeout: 20_000,
  })
  return (stdout + stderr).trim()
}

const withPair = ({ certFile, keyFile }: Pair): string => `sslcert=${certFile} sslkey=${keyFile}`

it('binds SCRAM to the channel, and passes the keys on to the server', () => {
  expect(psql('sslmode=require channel_binding=require')).toBe('demo')
})

it('serves SCRAM without binding', () => {
  expect(psql('sslmode=require channel_binding=disable')).toBe('demo')
})

it('is whom its certificate says', () => {
  expect(psql(`sslmode=verify-full sslrootcert=${authority.caFile}`)).toBe('demo')
  expect(psql(`sslmode=verify-full sslrootcert=${others.caFile}`)).toMatch(
    /certificate verify failed/,
  )
})

it('takes a client certificate of its authority beside SCRAM, and no other', () => {
  expect(psql(`sslmode=require ${withPair(demo)}`)).toBe('demo')
  const stranger = others.issue({ commonName: 'demo' })
  expect(psql(`sslmode=require ${withPair(stranger)}`)).toMatch(/certificate authentication failed/)
})

it('refuses a wrong password, and who does not exist, in the same words', () => {
  expect(psql('sslmode=require', 'wrong')).toMatch(/SASL authentication failed/)
  expect(psql('sslmode=require user=nobody')).toMatch(/SASL authentication failed/)
})

it('refuses what the rules reject', () => {
  expect(psql('sslmode=disable')).toMatch(/login rejected/)
})

it('says that a database is missing only to who has proved himself', () => {
  expect(psql('sslmode=require dbname=nowhere')).toMatch(/no such database: nowhere/)
  expect(psql('sslmode=require dbname=nowhere', 'wrong')).toMatch(/SASL authentication failed/)
})
