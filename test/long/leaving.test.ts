/**
 * One of two instances is told to end, by SIGINT, while applications work through it. Their clients look whether their
 * connection lives before they use it, and have the other instance's address, too: none of their statements meets the
 * end. In TLS an answer and the end behind it have to be one record, or they are read one by one.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { ChaosLoad, type Door } from '../chaos/load.ts'
import { Authority } from '../support/certificates.ts'
import { useCluster } from '../support/postgres.ts'
import { Steer, type SteerOptions } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const shared = useCluster({ replicas: 1 })
const directory = mkdtempSync(join(tmpdir(), 'pgsteer-leaving-'))
const pair = new Authority(join(directory, 'ca')).issue({
  commonName: 'localhost',
  names: 'DNS:localhost',
})
const TLS = {
  client_tls_sslmode: 'require',
  client_tls_cert_file: pair.certFile,
  client_tls_key_file: pair.keyFile,
}
const LOGIN = { user: 'demo', password: 'demo', database: 'demo' }
const TABLE = `create table if not exists written (id text not null,
  port int default inet_server_port(), lsn pg_lsn default pg_current_wal_insert_lsn())`
const ANSWERS = 20
const BUSY = { withinMs: 120_000 }

afterAll(() => rmSync(directory, { recursive: true }))

test.each([
  { form: 'plain', pgbouncer: {}, ssl: false as const },
  { form: 'TLS', pgbouncer: TLS, ssl: { rejectUnauthorized: false } },
])('$form: all go over to the other instance, and no statement fails', async (one) => {
  const options: SteerOptions = { pgbouncer: one.pgbouncer }
  const leaving = await Steer.start(shared.cluster, options)
  onTestFinished(() => leaving.stop())
  const staying = await Steer.start(shared.cluster, options)
  onTestFinished(() => staying.stop())
  const door = ({ host, port }: Steer): Door => ({ host, port, login: { ...LOGIN, ssl: one.ssl } })
  const owner = await staying.connect({ ssl: one.ssl })
  await owner.query(TABLE)
  await owner.end()
  const doors = { write: door(leaving), read: door(leaving), others: [door(staying)] }
  const load = new ChaosLoad(doors, one.form, { writers: 12, readers: 6 })
  onTestFinished(() => load.abort())
  load.start()
  await waitFor('a busy load', load.advance(ANSWERS), BUSY)
  leaving.signal('SIGINT')
  await waitFor('its end', () => leaving.exitCode !== null)
  await waitFor('a busy load elsewhere', load.advance(ANSWERS), BUSY)
  await load.stop()
  expect(leaving.exitCode).toBe(0)
  expect(load.readErrors).toEqual([])
  expect(load.writes.filter(({ outcome }) => outcome !== 'acknowledged')).toEqual([])
  expect([load.refused, load.dropped]).toEqual([0, 18])
})
