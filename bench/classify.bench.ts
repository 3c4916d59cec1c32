/**
 * What it costs to judge a text: cached, uncached, and the parts of it. Run with
 * `node bench/classify.bench.ts`; numbers are per text.
 */
import { bench, group, run, summary } from 'mitata'
import { catalogueOf } from '../src/routing/catalogue.ts'
import { classify } from '../src/routing/classify.ts'
import { lex } from '../src/routing/lexer.ts'
import { Statements } from '../src/routing/statements.ts'

const catalogue = catalogueOf({
  database: 'bench',
  serial: 1,
  volatileNames: ['nextval'],
  stableOrImmutableNames: ['count', 'sum', 'lower', 'coalesce', 'now', 'json_agg', 'row_number'],
  userNames: [],
})

const TEXTS = {
  pgbench: 'SELECT abalance FROM pgbench_accounts WHERE aid = 12345;',
  begin: 'BEGIN',
  update: 'UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 12345;',
  orm: `SELECT "posts"."id" AS t0_r0, "posts"."title" AS t0_r1, "comments"."id" AS t1_r0 FROM "posts"
    LEFT OUTER JOIN "comments" ON "comments"."post_id" = "posts"."id"
    WHERE "posts"."created_at" BETWEEN $1 AND $2 ORDER BY "posts"."created_at" DESC LIMIT 10`,
  report: `WITH r (no, total) AS (SELECT l_suppkey, sum(l_extendedprice * (1 - l_discount)) FROM lineitem
    WHERE l_shipdate >= date '1996-01-01' GROUP BY l_suppkey) SELECT s_suppkey, s_name, total,
    row_number() OVER (PARTITION BY s_name ORDER BY total) FROM supplier JOIN r ON s_suppkey = no
    WHERE total = (SELECT max(total) FROM r) AND lower(s_name) LIKE 'x%' ORDER BY s_suppkey LIMIT 100`,
}

const statements = new Statements(1000)
statements.setCatalogue(catalogue)

for (const [name, text] of Object.entries(TEXTS)) {
  const bytes = Buffer.from(text, 'latin1')
  group(`${name} (${text.length} bytes)`, () => {
    summary(() => {
      bench('cached, the same string', () => statements.classify(text))
      bench('cached, from bytes', () => statements.classify(bytes.toString('latin1')))
      bench('uncached', () => classify(text, catalogue))
      bench('tokens only', () => lex(text))
    })
  })
}

const insert = `INSERT INTO t (a, b) VALUES ${"(1, 'some text of usual length'), ".repeat(5000)} (1, '')`
bench(`uncached insert of ${insert.length} bytes`, () => classify(insert, catalogue))

await run()
