/** The same programs and drivers against a pgsteer in front of either version of PostgreSQL. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { integer, pgTable, text } from 'drizzle-orm/pg-core'
import { Pool } from 'pg'
import postgres from 'postgres'
import { describe, expect, test } from 'vitest'
import { program, python } from '../support/debian.ts'
import { execute } from '../support/exec.ts'
import type { SharedSteer } from '../support/steer.ts'

export function programsSuite(front: SharedSteer): void {
  psqlSuite(front)
  pgbenchSuite(front)
  driversSuite(front)
  pythonSuite(front)
}

function psqlSuite(front: SharedSteer): void {
  const psql = (input: string, ...parameters: string[]) =>
    execute(program('psql'), ['-X', '-q', '-A', '-t', ...parameters], {
      env: front.steer.libpq(),
      input,
    })

  describe('psql', () => {
    test('runs a script of everything', async () => {
      const ran = await psql(
        `\\set ON_ERROR_STOP on
CREATE TABLE psqled (id int PRIMARY KEY, t text);
\\copy psqled FROM STDIN
1\tone
2\ttwo
\\.
BEGIN; INSERT INTO psqled VALUES (3, 'three'); SAVEPOINT a; DELETE FROM psqled; ROLLBACK TO a; COMMIT;
SELECT count(*) FROM psqled;
\\copy (SELECT * FROM psqled ORDER BY id) TO STDOUT
\\d psqled
\\set FETCH_COUNT 1
SELECT id FROM psqled ORDER BY id;
DO $$ BEGIN RAISE NOTICE 'noted'; END $$;
DROP TABLE psqled;
`,
      )
      expect(ran.errors).toContain('NOTICE:  noted')
      expect(ran.output).toContain('3\n1\tone\n2\ttwo\n3\tthree\n')
      expect(ran.output).toMatch(/id\|integer\|\|not null/)
      expect(ran.output).toContain('1\n2\n3\n')
      expect(ran.code).toBe(0)
    })

    test('goes on behind errors, alone and in a transaction', async () => {
      const ran = await psql(
        "SELECT 1/0; SELECT 'after';\nBEGIN; SELECT nothing;\nSELECT 2;\nCOMMIT; SELECT 'end';\n",
      )
      expect(ran.errors).toMatch(/division by zero/)
      expect(ran.errors).toMatch(/current transaction is aborted/)
      expect(ran.output).toContain('after')
      expect(ran.output).toContain('end')
    })

    test('-1 and -c are one transaction', async () => {
      const ran = await psql('', '-1', '-c', 'CREATE TABLE gone (a int)', '-c', 'SELECT 1/0')
      expect(ran.code).not.toBe(0)
      expect((await psql("SELECT to_regclass('gone') IS NULL;")).output).toBe('t\n')
    })

    test('lists databases, roles and settings', async () => {
      const ran = await psql('\\l\n\\du\n\\dn\n\\conninfo\nSHOW ALL;\n')
      expect(ran.output).toContain('demo|')
      expect(ran.code).toBe(0)
    })
  })
}

function pgbenchSuite(front: SharedSteer): void {
  const pgbench = async (...parameters: string[]): Promise<string> => {
    const ran = await execute(program('pgbench'), parameters, { env: front.steer.libpq() })
    expect(ran.errors).not.toMatch(/error|abort/i)
    expect(ran.code).toBe(0)
    return ran.output
  }

  describe('pgbench', () => {
    test('fills its tables', async () => {
      await pgbench('-i', '-q', '-s', '2', '--no-vacuum')
    })

    test.each(['simple', 'extended', 'prepared'])('-M %s: TPC-B, and reads only', async (mode) => {
      for (const kind of [[], ['-S']]) {
        const output = await pgbench('-n', '-M', mode, '-c', '8', '-j', '2', '-t', '60', ...kind)
        expect(output).toContain('number of transactions actually processed: 480/480')
        expect(output).toContain('number of failed transactions: 0')
      }
    })

    test('custom scripts with pipelines, savepoints and settings', async () => {
      const file = join(front.steer.directory, 'custom.sql')
      writeFileSync(
        file,
        `\\set aid random(1, 100000)
\\startpipeline
SET application_name = 'bench';
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
\\endpipeline
BEGIN;
SAVEPOINT s;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
ROLLBACK TO s;
COMMIT;
\\startpipeline
BEGIN READ ONLY;
SELECT count(*) FROM pgbench_branches;
END;
\\endpipeline
`,
      )
      for (const mode of ['extended', 'prepared']) {
        const output = await pgbench('-n', '-M', mode, '-c', '6', '-t', '30', '-f', file)
        expect(output).toContain('number of failed transactions: 0')
      }
    })

    test('reconnects for each transaction (-C)', async () => {
      const output = await pgbench('-n', '-S', '-C', '-c', '4', '-t', '15')
      expect(output).toContain('number of transactions actually processed: 60/60')
    })

    test('nothing was lost: the sums of TPC-B agree', async () => {
      const client = await front.steer.connect()
      const { rows } = await client.query(
        `SELECT (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history) AS branches,
                (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history) AS tellers,
                (SELECT count(*) FROM pgbench_history)::int AS transactions`,
      )
      expect(rows).toEqual([{ branches: true, tellers: true, transactions: 1440 }])
      await client.end()
    })
  })
}

function driversSuite(front: SharedSteer): void {
  test('node-postgres: a pool, named statements, transactions, errors, big parameters', async () => {
    const pool = new Pool({ connectionString: front.steer.url(), max: 8 })
    await pool.query('CREATE TABLE noded (id int PRIMARY KEY, doc jsonb, at timestamptz)')
    const inserts = Array.from({ length: 40 }, (_, id) =>
      pool.query({
        name: 'insert',
        text: 'INSERT INTO noded VALUES ($1, $2, now()) RETURNING id',
        values: [id, JSON.stringify({ id })],
      }),
    )
    for (const [id, answer] of (await Promise.all(inserts)).entries())
      expect(answer.rows).toEqual([{ id }])
    await expect(pool.query('INSERT INTO noded VALUES ($1)', [1])).rejects.toThrow(/duplicate key/)
    const client = await pool.connect()
    await client.query('BEGIN')
    await client.query('DELETE FROM noded WHERE id < $1', [10])
    await client.query('ROLLBACK')
    client.release()
    const { rows } = await pool.query('SELECT count(*)::int AS n FROM noded')
    expect(rows).toEqual([{ n: 40 }])
    await pool.query('DROP TABLE noded')
    await pool.end()
  })

  test('postgres.js: pipelines, transactions with savepoints, cursors, listen', async () => {
    const db = postgres(front.steer.url(), { max: 4, onnotice: () => undefined })
    await db`CREATE TABLE jsed (id int PRIMARY KEY, name text)`
    await db.begin(async (transaction) => {
      await transaction`INSERT INTO jsed ${transaction([
        { id: 1, name: 'a' },
        { id: 2, name: 'b' },
      ])}`
      await transaction
        .savepoint(async (inner) => {
          await inner`INSERT INTO jsed VALUES (3, 'c')`
          throw new Error('back')
        })
        .catch(() => undefined)
    })
    const all = await Promise.all(
      Array.from({ length: 50 }, (_, n) => db<{ n: number }[]>`SELECT ${n}::int AS n`),
    )
    for (const [n, rows] of all.entries()) expect(rows[0]?.n).toBe(n)
    const seen: number[] = []
    await db.begin(async (transaction) => {
      for await (const rows of transaction<
        { id: number }[]
      >`SELECT id FROM jsed ORDER BY id`.cursor(1))
        seen.push(...rows.map((row) => row.id))
    })
    expect(seen).toEqual([1, 2])
    await expect(db`SELECT * FROM jsed WHERE nothing = 1`).rejects.toThrow(/nothing/)
    await db`DROP TABLE jsed`
    await db.end()
  })

  test('Drizzle: tables, transactions, relations by SQL', async () => {
    const pool = new Pool({ connectionString: front.steer.url(), max: 4 })
    const db = drizzle(pool)
    const people = pgTable('people', { id: integer('id').primaryKey(), name: text('name') })
    await db.execute(sql`CREATE TABLE people (id int PRIMARY KEY, name text)`)
    await db.insert(people).values([
      { id: 1, name: 'Ada' },
      { id: 2, name: 'Bob' },
    ])
    await db.transaction(async (transaction) => {
      await transaction.update(people).set({ name: 'Eve' }).where(sql`id = 2`)
      await expect(
        transaction.transaction(async (inner) => {
          await inner.delete(people)
          inner.rollback()
        }),
      ).rejects.toThrow()
    })
    expect(await db.select().from(people).orderBy(people.id)).toEqual([
      { id: 1, name: 'Ada' },
      { id: 2, name: 'Eve' },
    ])
    await db.execute(sql`DROP TABLE people`)
    await pool.end()
  })
}

const PSYCOPG = `
import logging, os, psycopg
from psycopg.rows import dict_row

# It warns of a pipeline whose error came before its block ended, and of no other: the error counts.
logging.getLogger("psycopg").setLevel(logging.ERROR)

conn = psycopg.connect(os.environ["DSN"], prepare_threshold=2)
conn.execute("DROP TABLE IF EXISTS snake; CREATE TABLE snake (id int PRIMARY KEY, name text)")
conn.commit()

# Statements are prepared by the driver after two executions.
for turn in range(8):
    assert conn.execute("SELECT %s::int + 1", (turn,)).fetchone() == (turn + 1,)
conn.commit()

# Pipelines: one transaction, an error inside one, and Syncs between.
with conn.pipeline() as pipeline:
    cursors = [conn.execute("INSERT INTO snake VALUES (%s, %s) RETURNING id", (n, "x")) for n in range(20)]
    pipeline.sync()
    assert [c.fetchone()[0] for c in cursors] == list(range(20))
conn.commit()
try:
    with conn.pipeline():
        conn.execute("INSERT INTO snake VALUES (100, 'kept?')")
        conn.execute("INSERT INTO snake VALUES (1, 'twice')")
        conn.execute("SELECT 1")
    raise SystemExit("no error")
except psycopg.errors.UniqueViolation:
    pass
conn.rollback()
assert conn.execute("SELECT count(*) FROM snake").fetchone() == (20,)
conn.commit()

# COPY both ways.
with conn.cursor().copy("COPY snake FROM STDIN") as copy:
    for n in range(1000, 1500):
        copy.write_row((n, "copied"))
conn.commit()
with conn.cursor().copy("COPY (SELECT * FROM snake WHERE id >= 1000) TO STDOUT") as copy:
    assert sum(1 for _ in copy.rows()) == 500
conn.commit()
try:
    with conn.cursor().copy("COPY snake FROM STDIN") as copy:
        copy.write_row((5000, "lost"))
        raise RuntimeError("in the middle")
except psycopg.errors.QueryCanceled:
    pass
conn.rollback()

# Server-side cursors, nested transactions, executemany.
with conn.cursor("named") as cursor:
    cursor.itersize = 100
    cursor.execute("SELECT id FROM snake ORDER BY id")
    assert sum(1 for _ in cursor) == 520
conn.commit()
with conn.transaction():
    conn.execute("INSERT INTO snake VALUES (7000, 'outer')")
    try:
        with conn.transaction():
            conn.execute("INSERT INTO snake VALUES (7001, 'inner')")
            conn.execute("SELECT 1/0")
    except psycopg.errors.DivisionByZero:
        pass
with conn.cursor() as cursor:
    cursor.executemany("INSERT INTO snake VALUES (%s, %s)", [(n, "many") for n in range(8000, 8050)])
conn.commit()
assert conn.execute("SELECT count(*) FROM snake WHERE id >= 7000").fetchone() == (51,)
conn.commit()

conn.autocommit = True
conn.read_only = True
assert conn.execute("SELECT 41 + 1").fetchone() == (42,)
conn.read_only = False
assert conn.cursor(row_factory=dict_row).execute("SELECT 1 AS one").fetchone() == {"one": 1}
binary = conn.cursor(binary=True)
assert binary.execute("SELECT %s::bytea", (bytes(range(256)),)).fetchone() == (bytes(range(256)),)
conn.execute("DROP TABLE snake")
conn.close()
print("done")
`

const PSYCOPG2 = `
import os, psycopg2
conn = psycopg2.connect(os.environ["DSN"])
cursor = conn.cursor()
cursor.execute("CREATE TABLE older (id int)")
cursor.execute("INSERT INTO older SELECT generate_series(1, 100)")
conn.commit()
named = conn.cursor("c")
named.execute("SELECT id FROM older")
assert len(named.fetchall()) == 100
conn.commit()
conn.set_session(isolation_level="SERIALIZABLE", readonly=True)
cursor.execute("SELECT count(*) FROM older")
assert cursor.fetchone() == (100,)
conn.commit()
conn.set_session(isolation_level="DEFAULT", readonly=False)
cursor.execute("DROP TABLE older")
conn.commit()
conn.close()
print("done")
`

function pythonSuite(front: SharedSteer): void {
  test.each([
    ['psycopg 3: prepared statements, pipelines, COPY, cursors', PSYCOPG],
    ['psycopg2: cursors and isolation levels', PSYCOPG2],
  ])('%s', async (_, script) => {
    const ran = await execute(python(), ['-c', script], { env: { DSN: front.steer.url() } })
    expect(ran.errors).toBe('')
    expect(ran.output).toBe('done\n')
    expect(ran.code).toBe(0)
  })
}
