import { chmodSync, chownSync, copyFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { KeyDeriver } from '../../src/auth/derive.ts'
import { md5Hash } from '../../src/auth/md5.ts'
import { parseSecret, type ServerSecret } from '../../src/auth/secret.ts'
import { systemClock } from '../../src/base/clock.ts'
import type { SslMode } from '../../src/config/keys/pgbouncer.ts'
import type { Member } from '../../src/demo/member.ts'
import { ServerTls } from '../../src/net/tls.ts'
import {
  type LoggedIn,
  type LoginDeps,
  type LoginTarget,
  logIn,
  sendCancel,
} from '../../src/server/login.ts'
import { errorFields, frames, frontend } from '../support/bytes.ts'
import { Authority } from '../support/certificates.ts'
import { postgres15 } from '../support/debian.ts'
import { useCluster } from '../support/postgres.ts'
import { waitFor } from '../support/wait.ts'

const HBA = `host all u_trust 127.0.0.1/32 trust
host all u_clear 127.0.0.1/32 password
host all u_md5 127.0.0.1/32 md5
host all u_scram 127.0.0.1/32 scram-sha-256
host all u_reject 127.0.0.1/32 reject
hostssl all u_tls 127.0.0.1/32 trust
hostnossl all u_plain 127.0.0.1/32 trust
hostssl all u_cert 127.0.0.1/32 cert
host replication u_trust 127.0.0.1/32 trust
host all postgres 127.0.0.1/32 scram-sha-256
local all all trust
`
const ROLES = `
SET password_encryption = 'scram-sha-256';
CREATE ROLE u_trust LOGIN REPLICATION; CREATE ROLE u_clear LOGIN PASSWORD 'secret'; CREATE ROLE u_reject LOGIN;
CREATE ROLE u_scram LOGIN PASSWORD 'secret'; CREATE ROLE u_tls LOGIN; CREATE ROLE u_plain LOGIN; CREATE ROLE u_cert LOGIN;
SET password_encryption = 'md5'; CREATE ROLE u_md5 LOGIN PASSWORD 'secret';
`

describe.each([
  ['PostgreSQL 18', undefined],
  ['PostgreSQL 15', postgres15],
])('%s', (_, binaries) => {
  const shared = useCluster(() =>
    binaries === undefined ? { replicas: 0 } : { replicas: 0, binaries: binaries() },
  )
  const deriver = new KeyDeriver()
  const deps: LoginDeps = { clock: systemClock, deriver, keepAliveMs: 0 }
  const opened: LoggedIn[] = []
  let authority: Authority

  beforeAll(async () => {
    const { cluster } = shared
    const member = cluster.primary
    authority = new Authority(join(cluster.directory, 'tls'))
    const pair = authority.issue({ commonName: 'pg', names: 'DNS:localhost' })
    write(member, 'server.crt', pair.certFile)
    write(member, 'server.key', pair.keyFile)
    write(member, 'ca.crt', authority.caFile)
    write(member, 'pg_hba.conf')
    await member.query(ROLES)
    await member.query("ALTER SYSTEM SET ssl_ca_file = 'ca.crt'")
    await member.query('ALTER SYSTEM SET ssl = on')
    await member.query('SELECT pg_reload_conf()')
    await waitFor('the reload', () =>
      login('u_tls', { mode: 'require' }).then(
        () => true,
        () => false,
      ),
    )
  })
  afterEach(() => {
    for (const { channel } of opened.splice(0)) channel.destroy()
  })

  interface Login extends Partial<Omit<LoginTarget, 'tls'>> {
    readonly mode?: SslMode
    readonly caFile?: string
    readonly certificate?: { readonly certFile: string; readonly keyFile: string }
  }

  const tlsFor = ({ mode = 'disable', caFile, certificate }: Login): ServerTls =>
    new ServerTls({
      sslmode: mode,
      caFile: caFile ?? null,
      certFile: certificate?.certFile ?? null,
      keyFile: certificate?.keyFile ?? null,
      ciphers: 'default',
      tls13Ciphers: null,
      protocols: 'secure',
      ecdhCurve: 'auto',
    })

  async function login(user: string, options: Login = {}): Promise<LoggedIn> {
    const { port } = shared.cluster.primary
    const loggedIn = await logIn(
      {
        address: { host: '127.0.0.1', port },
        database: 'postgres',
        user,
        secret: { kind: 'plain', password: 'secret' },
        startup: new Map(),
        replication: null,
        deadlineMs: 10_000,
        ...options,
        tls: tlsFor(options),
      },
      deps,
    )
    opened.push(loggedIn)
    return loggedIn
  }

  it.each<[string, ServerSecret]>([
    ['u_trust', { kind: 'none' }],
    ['u_clear', { kind: 'plain', password: 'secret' }],
    ['u_md5', { kind: 'plain', password: 'secret' }],
    ['u_md5', { kind: 'md5', hash: md5Hash('secret', 'u_md5') }],
    ['u_scram', { kind: 'plain', password: 'secret' }],
  ])('lets %s in', async (user, secret) => {
    const server = await login(user, { secret })
    expect(server.channel.unreadBytes).toBe(0)
    expect(server.parameters.get('server_encoding')).toBe('UTF8')
    expect(server.cancelSecret).toHaveLength(4)
    expect(await ask(server, 'SELECT current_user')).toBe(user)
    expect(await ask(server, 'SELECT pg_backend_pid()')).toBe(String(server.processId))
  })

  it('takes keys that a proof gave away in place of the password', async () => {
    const [row] = await shared.cluster.primary.query(
      "SELECT rolpassword FROM pg_authid WHERE rolname = 'u_scram'",
    )
    const secret = parseSecret(String(row?.['rolpassword']))
    if (secret.kind !== 'scram') throw new Error('the secret is SCRAM')
    const { salt, iterations } = secret.verifier
    const { clientKey, serverKey } = await deriver.keys('secret', salt, iterations)
    const keys = { kind: 'scram', clientKey, serverKey, salt, iterations } as const
    expect(await ask(await login('u_scram', { secret: keys }), 'SELECT current_user')).toBe(
      'u_scram',
    )
  })

  it.each<[string, string, ServerSecret, object]>([
    [
      'a wrong password',
      'u_scram',
      { kind: 'plain', password: 'x' },
      { sqlstate: '28P01', message: 'password authentication failed for user "u_scram"' },
    ],
    ['a wrong password', 'u_clear', { kind: 'plain', password: 'x' }, { sqlstate: '28P01' }],
    [
      'no secret',
      'u_scram',
      { kind: 'none' },
      { message: 'server login failed: wrong password type' },
    ],
    [
      'an md5 hash',
      'u_scram',
      { kind: 'md5', hash: 'md5x' },
      { message: 'server login failed: wrong password type' },
    ],
    [
      'any secret',
      'u_reject',
      { kind: 'none' },
      { code: 'server_login_failed', sqlstate: '28000' },
    ],
  ])('with %s keeps %s out', async (_what, user, secret, error) => {
    await expect(login(user, { secret })).rejects.toMatchObject(error)
  })

  it('says itself that a database is missing or a setting is wrong', async () => {
    await expect(login('u_trust', { database: 'nowhere' })).rejects.toMatchObject({
      sqlstate: '3D000',
      message: 'database "nowhere" does not exist',
    })
    const startup = new Map([['work_mem', 'much']])
    await expect(login('u_trust', { startup })).rejects.toMatchObject({ sqlstate: '22023' })
  })

  it('gets the settings of the startup packet, and none of our own', async () => {
    const startup = new Map([
      ['work_mem', '7MB'],
      ['client_encoding', 'LATIN1'],
      ['pgsteer.route', 'primary'],
    ])
    const server = await login('u_trust', { startup })
    expect(await ask(server, 'SHOW work_mem')).toBe('7MB')
    expect(server.parameters.get('client_encoding')).toBe('LATIN1')
    expect(await ask(server, 'SHOW pgsteer.route')).toBe('42704')
  })

  it('keeps the database default of client_encoding', async () => {
    await shared.cluster.primary.query('ALTER ROLE u_plain SET client_encoding = latin1')
    expect((await login('u_plain')).parameters.get('client_encoding')).toBe('LATIN1')
  })

  it.each(['logical', 'physical'] as const)('opens a %s replication connection', async (kind) => {
    const server = await login('u_trust', { replication: kind })
    expect(await ask(server, 'IDENTIFY_SYSTEM')).toMatch(/^\d{15,}/)
  })

  describe('sslmode', () => {
    it.each<[SslMode, string, boolean]>([
      ['disable', 'u_trust', false],
      ['allow', 'u_trust', false],
      ['allow', 'u_tls', true],
      ['prefer', 'u_trust', true],
      ['prefer', 'u_plain', false],
      ['require', 'u_trust', true],
    ])('%s lets %s in with TLS %s', async (mode, user, isTls) => {
      const server = await login(user, { mode })
      expect(server.channel.tls !== null).toBe(isTls)
      const ssl = await ask(server, 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
      expect(ssl).toBe(isTls ? 't' : 'f')
    })

    it.each<[SslMode, string]>([
      ['disable', 'u_tls'],
      ['require', 'u_plain'],
    ])('%s keeps %s out', async (mode, user) => {
      await expect(login(user, { mode })).rejects.toMatchObject({ sqlstate: '28000' })
    })

    it('verify-ca takes any name of our authority, verify-full the right one', async () => {
      const { caFile } = authority
      const { port } = shared.cluster.primary
      const byName = { address: { host: 'localhost', port }, caFile }
      await login('u_trust', { mode: 'verify-ca', caFile })
      await expect(login('u_trust', { mode: 'verify-full', caFile })).rejects.toMatchObject({
        code: 'server_tls',
      })
      await login('u_trust', { mode: 'verify-full', ...byName })
    })

    it('verify-ca refuses the authority of others, and require does not ask', async () => {
      const { caFile } = new Authority(join(shared.cluster.directory, 'others'))
      await expect(login('u_trust', { mode: 'verify-ca', caFile })).rejects.toMatchObject({
        code: 'server_tls',
      })
      await login('u_trust', { mode: 'require', caFile })
    })

    it('shows our certificate to a server that asks for it', async () => {
      const certificate = authority.issue({ commonName: 'u_cert' })
      const server = await login('u_cert', { mode: 'require', certificate })
      expect(await ask(server, 'SELECT current_user')).toBe('u_cert')
      const other = authority.issue({ commonName: 'u_other' })
      await expect(login('u_cert', { mode: 'require', certificate: other })).rejects.toMatchObject({
        sqlstate: '28000',
      })
    })

    it('is not asked on a Unix socket', async () => {
      const { dataDir, port } = shared.cluster.primary
      const address = { host: dataDir, port }
      const server = await login('u_scram', { mode: 'require', address })
      expect(server.channel.tls).toBe(null)
    })
  })

  it.each<[string, SslMode]>([
    ['in clear', 'disable'],
    ['over TLS', 'require'],
  ])('cancels a statement %s and ends the connection that said so', async (_how, mode) => {
    const server = await login('u_trust', { mode })
    const answer = ask(server, 'SELECT pg_sleep(60)')
    const { port } = shared.cluster.primary
    await waitFor('the statement', async () => {
      const rows = await shared.cluster.primary.query(
        `SELECT 1 FROM pg_stat_activity WHERE pid = ${server.processId} AND query LIKE '%pg_sleep%' AND state = 'active'`,
      )
      return rows.length === 1
    })
    const target = {
      address: { host: '127.0.0.1', port },
      processId: server.processId,
      secret: server.cancelSecret,
      tls: mode === 'disable' ? null : tlsFor({ mode }),
      deadlineMs: 5000,
    }
    expect(await sendCancel(target, deps)).toBe('ended')
    expect(await answer).toBe('57014')
  })
})

/** A file of the server's own; without `from` its pg_hba.conf. */
function write(member: Member, name: string, from?: string): void {
  const path = join(member.dataDir, name)
  if (from === undefined) writeFileSync(path, HBA)
  else copyFileSync(from, path)
  const { uid, gid } = statSync(member.dataDir)
  chownSync(path, uid, gid)
  chmodSync(path, 0o600)
}

/** The answer to one simple Query, as types and the first column of the first row. */
async function ask({ channel }: LoggedIn, sql: string): Promise<string> {
  channel.write(frontend.query(sql))
  let answer = Buffer.alloc(0)
  for (;;) {
    answer = Buffer.concat([answer, await channel.read(1)])
    const { frames: found, rest } = frames(answer)
    if (rest.length > 0 || found.at(-1)?.type !== 'Z') continue
    const error = found.find((frame) => frame.type === 'E')
    if (error !== undefined) return errorFields(error.body)['C'] ?? ''
    return found.find((frame) => frame.type === 'D')?.body.toString('utf8', 6) ?? ''
  }
}
