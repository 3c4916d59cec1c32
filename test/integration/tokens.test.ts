/** Positions that one session tells and another asks for, of this instance of pgsteer and another. */
import { afterEach, describe, expect, test } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { type SteerOptions, useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

const OPTIONS: SteerOptions = {
  databases: '* =\neventual = dbname=demo consistency=eventual',
  cluster: { probe_timeout_ms: 5000 },
  pgsteer: { replica_lag_ms_max: 120_000 },
}

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, OPTIONS)
const other = useSteer(shared, OPTIONS)

async function resume(): Promise<void> {
  await shared.cluster.resumeReplay('pg2')
  await shared.cluster.caughtUp()
}

afterEach(resume)

async function cell(client: WireClient, sql: string): Promise<string | null | undefined> {
  const answer = await client.query(sql)
  if (answer.sqlstate !== undefined) throw new Error(`${sql}: ${answer.errors[0]?.['M']}`)
  return answer.rows[0]?.[0]
}

async function served(client: WireClient): Promise<string | undefined> {
  const port = await cell(client, 'SELECT inet_server_port()')
  return shared.cluster.members.find((member) => String(member.port) === port)?.name
}

/** Waits until reads of this client land on the replica. */
async function untilRead(client: WireClient): Promise<void> {
  await waitFor('reads land on the replica', async () => (await served(client)) === 'pg2', {
    withinMs: 20_000,
  })
}

/** A table whose last change the replica does not have, and the position of that. */
async function written(): Promise<{ writer: WireClient; token: string }> {
  const writer = await front.steer.wire()
  await writer.query('CREATE TABLE handed (n int); INSERT INTO handed VALUES (0)')
  await shared.cluster.caughtUp()
  await shared.cluster.pauseReplay('pg2')
  await writer.query('UPDATE handed SET n = 1')
  const token = (await cell(writer, 'SHOW pgsteer.lsn')) ?? ''
  expect(token).toMatch(/^1:[0-9A-F]+\/[0-9A-F]+$/)
  return { writer, token }
}

async function clear(writer: WireClient): Promise<void> {
  await resume()
  await writer.query('DROP TABLE handed')
  await writer.close()
}

describe('a token', () => {
  test('lets connections of this and of another instance read what was written', async () => {
    const { writer, token } = await written()
    for (const steer of [front.steer, other.steer])
      for (const database of ['demo', 'eventual']) {
        const reader = await steer.wire({ database })
        expect(await cell(reader, 'SELECT n FROM handed')).toBe('0')
        expect((await reader.query(`SET pgsteer.min_lsn = '${token}'`)).errors).toEqual([])
        expect(await cell(reader, 'SELECT n FROM handed')).toBe('1')
        expect(await served(reader)).toBe('pg1')
        await reader.query('RESET pgsteer.min_lsn')
        await reader.close()
      }
    await clear(writer)
  })

  test('lets them go back to replicas that have it', async () => {
    const { writer, token } = await written()
    const reader = await other.steer.wire({
      parameters: { options: `-c pgsteer.min_lsn=${token}` },
    })
    expect(await cell(reader, 'SHOW pgsteer.min_lsn')).toBe(token)
    expect(await cell(reader, 'SELECT n FROM handed')).toBe('1')
    await resume()
    await untilRead(reader)
    expect(await cell(reader, 'SELECT n FROM handed')).toBe('1')
    await reader.close()
    await clear(writer)
  })

  test('is for one transaction with SET LOCAL, which the primary then has', async () => {
    const { writer, token } = await written()
    const reader = await other.steer.wire({ database: 'eventual' })
    await reader.query('BEGIN READ ONLY')
    await reader.query(`SET LOCAL pgsteer.min_lsn = '${token}'`)
    expect(await cell(reader, 'SELECT n FROM handed')).toBe('1')
    await reader.query('COMMIT')
    expect(await cell(reader, 'SELECT n FROM handed')).toBe('0')
    await reader.close()
    await clear(writer)
  })

  test('is told and taken by drivers of the extended protocol, alone and inside a transaction', async () => {
    const client = await front.steer.connect()
    await client.query('CREATE TABLE driven (n int)')
    const shown = await client.query({ text: 'SHOW pgsteer.lsn', values: [] })
    expect(shown.fields.map(({ name }) => name)).toEqual(['pgsteer.lsn'])
    const named = { name: 'where', text: 'SHOW pgsteer.lsn' }
    const [first] = (await client.query(named)).rows
    await client.query('INSERT INTO driven VALUES (1)')
    const [second] = (await client.query(named)).rows
    expect(first['pgsteer.lsn']).not.toBe(second['pgsteer.lsn'])
    const token = String(second['pgsteer.lsn'])
    await client.query({ text: `SET pgsteer.min_lsn = '${token}'`, values: [] })
    expect((await client.query('SHOW pgsteer.min_lsn')).rows).toEqual([
      { 'pgsteer.min_lsn': token },
    ])
    await client.query('BEGIN')
    await client.query('INSERT INTO driven VALUES (2)')
    expect((await client.query('SHOW pgsteer.lsn')).rows).toHaveLength(1)
    await client.query("SET pgsteer.min_lsn = '1:0/1'")
    await client.query('ROLLBACK')
    expect((await client.query('SHOW pgsteer.min_lsn')).rows).toEqual([
      { 'pgsteer.min_lsn': token },
    ])
    await client.query('DISCARD ALL')
    expect((await client.query('SHOW pgsteer.min_lsn')).rows).toEqual([{ 'pgsteer.min_lsn': '' }])
    await client.query('DROP TABLE driven')
    await client.end()
  })

  test('that is none is 22023, at log-in too, and no server has it', async () => {
    const client = await front.steer.wire()
    expect((await client.query("SET pgsteer.min_lsn = 'now'")).sqlstate).toBe('22023')
    await client.query("SET pgsteer.min_lsn = '1:0/1'")
    const known = await cell(client, "SELECT current_setting('pgsteer.min_lsn', true)")
    expect(known ?? '').toBe('')
    await client.close()
    const login = front.steer.wire({ parameters: { 'pgsteer.min_lsn': 'now' } })
    await expect(login).rejects.toThrow(/timeline and a position/)
  })
})
