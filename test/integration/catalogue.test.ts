/**
 * The catalogue of a real database, and the classifier's word against a real standby: what it calls a
 * read must never be refused as a write there.
 */
import { Client, DatabaseError } from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  CATALOGUE_QUERY,
  type Catalogue,
  type CatalogueRow,
  catalogueOf,
  factsOf,
} from '../../src/routing/catalogue.ts'
import { classify } from '../../src/routing/classify.ts'
import { HARMLESS_VOLATILE } from '../../src/routing/words.ts'
import { useCluster } from '../support/postgres.ts'
import { bytesOf, corpus } from '../unit/routing/oracle.ts'

const shared = useCluster({ replicas: 1 })

const SCHEMA = `
  create schema s;
  create table t (a int primary key, b text);
  create table u (a int primary key, b text);
  create table s.t (a int, b text);
  insert into t values (1, 'x'), (2, 'y');
  create function audit(a int default 0) returns int language sql volatile as 'select a';
  create function s.harmless(a int) returns int language sql stable as 'select a';
  create function public.random(a int) returns int language sql immutable as 'select a';
  create function s.lower(a int) returns int language sql volatile as 'select a';
  create procedure p() language sql as 'delete from t'`

/** The catalogue as the control plane would read it. */
async function read(client: Client): Promise<Catalogue> {
  const { rows } = await client.query<CatalogueRow>(CATALOGUE_QUERY)
  return catalogueOf(factsOf('demo', 1, rows))
}

async function plainRole(port: number): Promise<Client> {
  const client = new Client({
    host: '127.0.0.1',
    port,
    user: 'demo',
    password: 'demo',
    database: 'demo',
  })
  await client.connect()
  return client
}

/** The SQLSTATE of a statement, '' where it worked. */
async function sqlstateOf(client: Client, text: string): Promise<string> {
  try {
    await client.query(text)
    return ''
  } catch (error) {
    if (error instanceof DatabaseError) return error.code ?? 'none'
    throw error
  }
}

beforeAll(async () => {
  const owner = await shared.cluster.primary.connect('demo')
  await owner.query(SCHEMA)
  await owner.end()
  await shared.cluster.caughtUp()
})

describe('the catalogue', () => {
  test('is read by a plain role, the same on the primary and on a replica', async () => {
    const [primary, replica] = [
      shared.cluster.primary,
      shared.cluster.members.find((member) => member !== shared.cluster.primary),
    ]
    if (replica === undefined) throw new Error('no replica')
    const answers = []
    for (const { port } of [primary, replica]) {
      const client = await plainRole(port)
      answers.push((await client.query(CATALOGUE_QUERY)).rows)
      await client.end()
    }
    expect(answers[0]).toEqual(answers[1])
    expect(answers[0]?.length).toBeGreaterThan(2000)
  })

  test('proves names by every schema of the database', async () => {
    const client = await plainRole(shared.cluster.primary.port)
    const catalogue = await read(client)
    await client.end()
    const names = [
      'upper',
      'now',
      'clock_timestamp',
      'harmless',
      'count',
      'row_number',
      'generate_series',
    ]
    expect(names.filter((name) => !catalogue.isHarmless(name))).toEqual([])
    const others = [
      'audit',
      'lower',
      'random',
      'nextval',
      'p',
      'pg_advisory_lock',
      'pg_notify',
      'lo_create',
      'set_config',
      'none',
    ]
    expect(others.filter((name) => catalogue.isHarmless(name))).toEqual([])
    expect([catalogue.isBuiltin('nextval'), catalogue.isBuiltin('lower')]).toEqual([true, false])
  })

  test('knows no harmless function that a standby refuses', async () => {
    const replica = shared.cluster.members.find((member) => member !== shared.cluster.primary)
    const client = await plainRole(replica?.port ?? 0)
    const states = []
    for (const name of HARMLESS_VOLATILE) {
      for (const values of ['', '0', "'t'::regclass", "'1 ms'::interval", 'now()']) {
        states.push([name, await sqlstateOf(client, `select pg_catalog.${name}(${values})`)])
      }
    }
    await client.end()
    expect(
      states.filter(([, state]) => state === '25006' || state === '0A000' || state === 'XX000'),
    ).toEqual([])
    expect(states.filter(([, state]) => state === '').length).toBeGreaterThan(8)
  })
})

test('nothing that is called a read is refused by a standby as a write', async () => {
  const replica = shared.cluster.members.find((member) => member !== shared.cluster.primary)
  const client = await plainRole(replica?.port ?? 0)
  const catalogue = await read(client)
  await client.query("set statement_timeout = '2s'")
  const refused: string[] = []
  let worked = 0
  for (const text of [...corpus('reads'), ...corpus('orm'), ...corpus('others')]) {
    if (!classify(bytesOf(text), catalogue).read || /\bcopy\b/i.test(text) || text.includes('$1'))
      continue
    const state = await sqlstateOf(client, text)
    if (state === '25006' || state === '0A000') refused.push(text)
    if (state === '') worked += 1
  }
  await client.end()
  expect(refused).toEqual([])
  expect(worked).toBeGreaterThan(60)
})
