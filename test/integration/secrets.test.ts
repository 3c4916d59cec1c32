/**
 * The whole program where no password is stored: SCRAM secrets in auth_file or from auth_query, keys
 * learnt from the client's proof, HBA rules, TLS to both sides with certificates that are renewed.
 */
import { chownSync, copyFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { beforeAll, describe, expect, test } from 'vitest'
import { Authority } from '../support/certificates.ts'
import { program } from '../support/debian.ts'
import { execute } from '../support/exec.ts'
import { useCluster } from '../support/postgres.ts'
import { Steer, type SteerOptions, useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const shared = useCluster({ replicas: 1 })
let authority: Authority

beforeAll(async () => {
  authority = new Authority(join(shared.cluster.directory, 'tls'))
  const pair = authority.issue({ commonName: 'pg', names: 'IP:127.0.0.1' })
  for (const member of shared.cluster.members) {
    const { uid, gid } = statSync(member.dataDir)
    for (const [name, from] of [
      ['server.crt', pair.certFile],
      ['server.key', pair.keyFile],
    ] as const) {
      copyFileSync(from, join(member.dataDir, name))
      chownSync(join(member.dataDir, name), uid, gid)
    }
    await member.query('ALTER SYSTEM SET ssl = on')
    await member.query('SELECT pg_reload_conf()')
  }
  await shared.cluster.primary.query(
    `CREATE FUNCTION public.secret_of(name text, OUT usename text, OUT passwd text)
       LANGUAGE sql SECURITY DEFINER AS 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = name'`,
  )
  const secrets = await Promise.all(['demo', 'postgres'].map(secretOf))
  write('secrets.txt', `"demo" "${secrets[0]}"\n"postgres" "${secrets[1]}"\n`)
  write('authority.txt', '"postgres" "postgres"\n')
  write(
    'hba.conf',
    'hostssl all demo 127.0.0.1/32 scram-sha-256\nhostssl pgbouncer postgres 127.0.0.1/32 scram-sha-256\n',
  )
  await shared.cluster.caughtUp()
})

function write(name: string, text: string): void {
  writeFileSync(file(name), text)
}

/** Of the files that configurations here name. */
function file(name: string): string {
  return join(shared.cluster.directory, name)
}

interface Psql {
  readonly user?: string
  readonly password?: string
  /** More of the connection string. */
  readonly more?: string
  readonly database?: string
}

function psql(steer: Steer, sql: string, options: Psql = {}) {
  const { user = 'demo', password = user, more = '', database = 'demo' } = options
  const dsn = `host=127.0.0.1 port=${steer.port} user=${user} dbname=${database} ${more}`
  return execute(program('psql'), ['-X', '-A', '-t', '-c', sql, dsn], {
    env: { PGPASSWORD: password },
  })
}

/** The secret of a role as pg_authid has it. */
async function secretOf(role: string): Promise<string> {
  const [row] = await shared.cluster.primary.query<{ secret: string }>(
    'SELECT rolpassword AS secret FROM pg_authid WHERE rolname = $1',
    [role],
  )
  return row?.secret ?? ''
}

/** Both kinds of servers were logged in to as this user. */
async function expectBothRoles(steer: Steer, user: string): Promise<void> {
  const written = await psql(steer, 'CREATE TEMP TABLE t (a int); SELECT current_user', { user })
  expect([written.code, written.output.split('\n').at(-2), written.errors]).toEqual([0, user, ''])
  await waitFor('a read on the replica', async () => {
    const read = await psql(steer, 'SELECT inet_server_port()', { user })
    return Number(read.output) === shared.cluster.replicas[0]?.port
  })
}

describe('auth_file without a password', () => {
  const front = useSteer(shared, () => ({ pgbouncer: { auth_file: file('secrets.txt') } }))

  test('the proof of the client opens the servers, of either role', async () => {
    const { steer } = front
    await expectBothRoles(steer, 'demo')
    const wrong = await psql(steer, 'SELECT 1', { password: 'wrong' })
    expect(wrong.errors).toMatch(/SASL authentication failed/)
    expect(steer.log).not.toContain(await secretOf('demo'))
  })
})

describe('auth_query', () => {
  const front = useSteer(shared, () => ({
    pgbouncer: {
      auth_file: file('authority.txt'),
      auth_user: 'postgres',
      auth_dbname: 'postgres',
      auth_query: 'SELECT usename, passwd FROM public.secret_of($1)',
    },
  }))

  test('finds the secret, whose proof opens the servers; a new one is asked for when the old one was wrong', async () => {
    const { steer } = front
    await shared.cluster.primary.query("CREATE ROLE changing LOGIN PASSWORD 'changing'")
    await shared.cluster.caughtUp()
    await expectBothRoles(steer, 'changing')
    await shared.cluster.primary.query("ALTER ROLE changing PASSWORD 'changed'")
    await shared.cluster.caughtUp()
    // The old secret is in memory until it proved wrong once.
    const attempt = () => psql(steer, 'SELECT 1', { user: 'changing', password: 'changed' })
    await attempt()
    expect((await attempt()).errors).toBe('')
    const old = await psql(steer, 'SELECT 1', { user: 'changing' })
    expect(old.errors).toMatch(/SASL authentication failed/)
    const nobody = await psql(steer, 'SELECT 1', { user: 'nobody' })
    expect(nobody.errors).toMatch(/SASL authentication failed/)
  })
})

const withTls = (certFile: string, keyFile: string): SteerOptions => ({
  pgbouncer: {
    auth_type: 'hba',
    auth_hba_file: file('hba.conf'),
    client_tls_sslmode: 'allow',
    client_tls_cert_file: certFile,
    client_tls_key_file: keyFile,
    server_tls_sslmode: 'verify-full',
    server_tls_ca_file: authority.caFile,
  },
  cluster: { probe_tls_sslmode: 'prefer' },
})

describe('TLS to both sides, auth_type = hba', () => {
  test('a client that verifies gets in, one in clear does not; a new certificate comes with SIGHUP', async () => {
    const old = authority.issue({ commonName: 'old', names: 'IP:127.0.0.1' })
    const steer = await Steer.start(shared.cluster, withTls(old.certFile, old.keyFile))
    try {
      const verified = `sslmode=verify-full channel_binding=require sslrootcert=${authority.caFile}`
      const sql = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'
      const inside = await psql(steer, sql, { more: verified })
      expect([inside.errors, inside.output]).toEqual(['', 't\n'])
      const clear = await psql(steer, sql, { more: 'sslmode=disable' })
      expect(clear.code).not.toBe(0)
      expect(await nameOf(steer)).toBe('old')
      const next = authority.issue({ commonName: 'new', names: 'IP:127.0.0.1' })
      steer.rewrite(withTls(next.certFile, next.keyFile))
      steer.signal('SIGHUP')
      await waitFor('the new certificate', async () => (await nameOf(steer)) === 'new')
      expect((await psql(steer, sql, { more: verified })).output).toBe('t\n')
    } finally {
      await steer.stop()
    }
  })
})

/** The common name that pgsteer shows to who begins with TLS at once. */
function nameOf(steer: Steer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTls(
      {
        host: '127.0.0.1',
        port: steer.port,
        ca: [],
        rejectUnauthorized: false,
        ALPNProtocols: ['postgresql'],
      },
      () => {
        resolve(String(socket.getPeerCertificate().subject.CN))
        socket.destroy()
      },
    )
    socket.on('error', reject)
  })
}

test('replication under route = replica streams from a replica', async () => {
  const steer = await Steer.start(shared.cluster, { databases: 'postgres = route=replica\n* =' })
  try {
    const more = 'replication=database'
    const login = { user: 'postgres', database: 'postgres', more }
    const recovering = await psql(steer, 'SELECT pg_is_in_recovery()', login)
    expect([recovering.errors, recovering.output]).toEqual(['', 't\n'])
    const other = await psql(steer, 'SELECT pg_is_in_recovery()', { ...login, database: 'demo' })
    expect(other.output).toBe('f\n')
  } finally {
    await steer.stop()
  }
})
