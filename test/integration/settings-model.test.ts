/**
 * Two clients share their servers and must not notice: whatever they set, take back and roll back, they
 * see what they would see on connections of their own, which PostgreSQL itself says beside them.
 */
import { fc } from '@fast-check/vitest'
import { expect, test } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { type Answer, WireClient } from '../support/wire-client.ts'

const RUNS = 60

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, {
  databases: 'one = dbname=demo pool_size=1 route=primary\nsplit = dbname=demo pool_size=1',
})

/** What a session can see of its settings. A server never forgets the name of one that was invented. */
const LOOK = `SELECT current_user, session_user, current_setting('role'), current_setting('work_mem'),
  current_setting('search_path'), coalesce(current_setting('my.own', true), ''), current_setting('timezone'),
  current_setting('application_name'), current_setting('default_transaction_read_only')`

const STATEMENTS = [
  ['SET ROLE demo', 'SET ROLE pg_monitor', 'SET ROLE NONE', 'RESET ROLE', 'SET LOCAL ROLE demo'],
  ['SET SESSION AUTHORIZATION demo', 'RESET SESSION AUTHORIZATION'],
  ["SET work_mem = '5MB'", "SET LOCAL work_mem = '6MB'", 'RESET work_mem'],
  ['SET search_path TO a, b', 'SET search_path = DEFAULT', "SET my.own = 'x'", 'RESET my.own'],
  ["SET TIME ZONE 'Asia/Tokyo'", 'SET TIME ZONE DEFAULT', "SET application_name TO 'me'"],
  ["SELECT set_config('work_mem', '7MB', true)", 'RESET ALL', 'DISCARD ALL', 'SELECT 1/0'],
  ['BEGIN', 'COMMIT', 'ROLLBACK', 'SAVEPOINT s', 'ROLLBACK TO s', 'RELEASE s', LOOK, LOOK],
  ["SET work_mem = '8MB'; SET my.own = 'y'; SELECT 1/0"],
  ["SET work_mem = '9MB'; SELECT 1; SET my.own = 'z'"],
].flat()
const statement = fc.constantFrom(...STATEMENTS)

interface Pair {
  readonly ours: WireClient
  readonly theirs: WireClient
}

async function pairs(database: string): Promise<Pair[]> {
  const user = 'postgres'
  const direct = { user, port: shared.cluster.primary.port, database: 'demo' }
  const pair = async () => ({
    ours: await front.steer.wire({ user, database }),
    theirs: await WireClient.login(direct),
  })
  return [await pair(), await pair()]
}

/** What two PostgreSQLs answer alike. */
function essence({ tags, rows, sqlstate, status }: Answer) {
  return { tags, rows, sqlstate, status }
}

test.each([
  ['one', 'one server'],
  ['split', 'a primary and a replica'],
])("%s: over %s, settings are those of a connection of one's own", async (database) => {
  const script = fc.tuple(fc.nat(1), fc.array(statement, { minLength: 1, maxLength: 7 }))
  const property = fc.asyncProperty(
    fc.array(script, { minLength: 1, maxLength: 6 }),
    async (all) => {
      const clients = await pairs(database)
      const done: string[] = []
      try {
        for (const [who, statements] of all)
          for (const sql of [...statements, 'ROLLBACK', LOOK]) {
            done.push(`${who}: ${sql}`)
            const { ours, theirs } = clients[who] as Pair
            const [our, their] = await Promise.all([ours.query(sql), theirs.query(sql)])
            expect(essence(our), done.join(';\n')).toEqual(essence(their))
          }
      } finally {
        for (const { ours, theirs } of clients) await Promise.all([ours.close(), theirs.close()])
      }
    },
  )
  await fc.assert(property, { numRuns: RUNS, seed: 11 })
})
