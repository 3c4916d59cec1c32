/**
 * TLS towards real servers, by the whole program: probes and the function catalogue verify whom they
 * ask, and RELOAD takes renewed files, for probes and for clients' servers alike.
 */
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, copyFileSync, readFileSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { beforeAll, expect, test } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { Authority, type Pair } from '../support/certificates.ts'
import { useCluster } from '../support/postgres.ts'
import { type SteerOptions, useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

/** What a server is asked for under verify-full. */
const RIGHT = { commonName: 'pg', names: 'IP:127.0.0.1' }

const shared = useCluster({ replicas: 0 })
let ours: Authority
let theirs: Authority

beforeAll(async () => {
  const { directory, primary } = shared.cluster
  ours = new Authority(join(directory, 'ours'))
  theirs = new Authority(join(directory, 'theirs'))
  place(ours.caFile, 'client-ca.crt')
  await primary.query("ALTER SYSTEM SET ssl_ca_file = 'client-ca.crt'")
  await primary.query('ALTER SYSTEM SET ssl = on')
  await show(ours.issue(RIGHT))
  copyFileSync(ours.caFile, live('ca.crt'))
  renew(ours.issue({ commonName: 'pgsteer' }))
})

/** A file of the server's. */
function place(from: string, name: string): void {
  const { dataDir } = shared.cluster.primary
  const { uid, gid } = statSync(dataDir)
  copyFileSync(from, join(dataDir, name))
  chownSync(join(dataDir, name), uid, gid)
}

/** From now on the server shows this certificate to whom connects. */
async function show(pair: Pair): Promise<void> {
  place(pair.certFile, 'server.crt')
  place(pair.keyFile, 'server.key')
  await shared.cluster.primary.query('SELECT pg_reload_conf()')
  const { fingerprint256 } = new X509Certificate(readFileSync(pair.certFile))
  await waitFor('the certificate', async () => (await shownByServer()) === fingerprint256)
}

/** The fingerprint of the certificate that the server shows now. */
async function shownByServer(): Promise<string | undefined> {
  const { host, port } = shared.cluster.primary
  const plain = connect({ host, port })
  plain.write(frontend.sslRequest())
  await once(plain, 'data', { signal: AbortSignal.timeout(5000) })
  const socket = connectTls({ socket: plain, rejectUnauthorized: false })
  await once(socket, 'secureConnect', { signal: AbortSignal.timeout(5000) })
  const certificate = socket.getPeerX509Certificate()
  socket.destroy()
  return certificate?.fingerprint256
}

/** One of the files that pgsteer's configuration names, all the time. */
function live(name: string): string {
  return join(shared.cluster.directory, name)
}

/** The certificate that pgsteer shows to servers from its next reload on. */
function renew(pair: Pair): void {
  copyFileSync(pair.certFile, live('pgsteer.crt'))
  copyFileSync(pair.keyFile, live('pgsteer.key'))
}

const options = (probeMode: string): SteerOptions => ({
  pgbouncer: {
    server_tls_sslmode: 'verify-full',
    server_tls_ca_file: live('ca.crt'),
    server_tls_cert_file: live('pgsteer.crt'),
    server_tls_key_file: live('pgsteer.key'),
  },
  cluster: { probe_tls_sslmode: probeMode },
})

const front = useSteer(shared, () => options('verify-full'))

/** From now on probes use this mode, and everybody's new connections the files as they are now. */
async function reload(probeMode = 'verify-full'): Promise<void> {
  front.steer.rewrite(options(probeMode))
  await front.steer.console('RELOAD')
}

async function untilMissing(what: RegExp): Promise<void> {
  await waitFor(`no primary: ${what}`, async () => {
    const response = await fetch(`http://127.0.0.1:${front.steer.httpPort}/api/cluster`)
    const { primary, missing } = (await response.json()) as { primary: unknown; missing: string }
    if (primary === null && what.test(missing)) return true
    throw new Error(`primary ${String(primary)}, missing: ${missing}`)
  })
}

async function untilPrimary(): Promise<void> {
  await waitFor('a primary', async () => {
    const response = await fetch(`http://127.0.0.1:${front.steer.httpPort}/primary`)
    await response.body?.cancel()
    return response.ok
  })
}

async function failedProbes(): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${front.steer.httpPort}/metrics`)
  const value = /^pgsteer_cluster_probes_failed_total (\d+)$/m.exec(await response.text())?.[1]
  return Number(value)
}

/** The connections of probes, as PostgreSQL sees them; the serial is of the certificate we show. */
function probes(): Promise<{ pid: number; serial: string | null }[]> {
  return shared.cluster.primary.query<{ pid: number; serial: string | null }>(
    `SELECT pid, client_serial::text AS serial FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
      WHERE application_name = 'pgsteer probe' AND ssl`,
  )
}

/** Which certificate of ours the server behind this client was shown. */
async function serialOf(client: WireClient): Promise<string | null | undefined> {
  const sql = 'SELECT client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()'
  return (await client.query(sql)).rows[0]?.[0]
}

test('probes and the function catalogue verify the server, and show our certificate', async () => {
  const serials = (await probes()).map(({ serial }) => serial)
  expect(serials).toEqual([expect.any(String)])
  const client = await front.steer.wire()
  await client.query('SELECT 1')
  await waitFor('a proved function', async () => {
    const [row] = await front.steer.console('EXPLAIN ROUTE IN demo SELECT abs(1)')
    return row?.['reason'] === 'read'
  })
  expect(front.steer.log).not.toContain('the functions of a database were not read')
  await client.close()
})

test('probes refuse a server of another name under verify-full, and take it under verify-ca', async () => {
  await show(ours.issue({ ...RIGHT, names: 'IP:127.0.0.2' }))
  const [before] = await probes()
  await reload('verify-ca')
  await waitFor('a new probe', async () => {
    const [after] = await probes()
    return after !== undefined && after.pid !== before?.pid
  })
  await reload('verify-full')
  await untilMissing(/127\.0\.0\.1:\d+: .*IP: 127\.0\.0\.1 is not in the cert's list/)
  await show(ours.issue(RIGHT))
  await untilPrimary()
})

test('probes refuse a server of a strange authority, until RELOAD after that is in the file', async () => {
  await show(theirs.issue(RIGHT))
  for (const mode of ['verify-ca', 'verify-full']) {
    await reload(mode)
    const failed = await failedProbes()
    // One may have been under way.
    await waitFor('two more failures', async () => (await failedProbes()) > failed + 1)
    await untilMissing(/127\.0\.0\.1:\d+: unable to verify the first certificate/)
  }
  copyFileSync(theirs.caFile, live('ca.crt'))
  await reload()
  await untilPrimary()
})

test('new servers of clients see renewed files after RELOAD, those at work stay as they are', async () => {
  copyFileSync(ours.caFile, live('ca.crt'))
  await show(ours.issue(RIGHT))
  await reload()
  await untilPrimary()
  const [worker, newcomer] = [await front.steer.wire(), await front.steer.wire()]
  await worker.query('BEGIN')
  const before = await serialOf(worker)
  renew(ours.issue({ commonName: 'pgsteer' }))
  await show(theirs.issue(RIGHT))
  copyFileSync(theirs.caFile, live('ca.crt'))
  await reload()
  await front.steer.console('RECONNECT demo')
  const after = await serialOf(newcomer)
  expect(Number(after)).toBeGreaterThan(Number(before))
  expect(await serialOf(worker)).toBe(before)
})
