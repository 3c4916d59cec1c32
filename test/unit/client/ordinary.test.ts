/** What takes the short way must be nothing that the long way would have looked at. */
import { expect, it } from 'vitest'
import { NOT_UNDERSTOOD } from '../../../src/client/batch.ts'
import { hasEffects, isOrdinary, isPlainWrite } from '../../../src/client/effects.ts'
import { PLAIN_SELECT } from '../../../src/client/quick.ts'
import { stakeOf, WRITES } from '../../../src/client/stake.ts'
import { isUnclean } from '../../../src/client/work.ts'
import { EMPTY_CATALOGUE } from '../../../src/routing/catalogue.ts'
import { classify } from '../../../src/routing/classify.ts'
import { corpus } from '../routing/oracle.ts'

function judged(text: string): ReturnType<typeof classify> {
  return classify(text, EMPTY_CATALOGUE)
}

it.each(['SELECT 1', 'select a from t where b = $1;', 'SELECT abalance FROM pgbench_accounts'])(
  '%s is ordinary',
  (text) => {
    expect(isOrdinary(judged(text))).toBe(true)
  },
)

it.each([
  'SELECT 1; SELECT 2',
  'SELECT f(1)',
  'SELECT pg_advisory_lock(1)',
  'SELECT pg_advisory_unlock(1)',
  "SELECT set_config('a.b', 'c', false)",
  "SELECT nextval('s')",
  "SELECT currval('s')",
  'SELECT 1 INTO TEMP t',
  'SELECT a FROM t FOR UPDATE',
  'BEGIN',
  'COMMIT',
  'SET search_path = a',
  'SHOW pgsteer.lsn',
  'SHOW pgsteer.min_lsn',
  'RESET ALL',
  'DEALLOCATE p',
  'PREPARE p AS SELECT 1',
  'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
  'LISTEN c',
  'INSERT INTO t VALUES (1)',
  'DISCARD ALL',
  '',
])('%s is not', (text) => {
  expect(isOrdinary(judged(text))).toBe(false)
})

it('what nobody has read is not, and what was only looked at is', () => {
  expect(isOrdinary(NOT_UNDERSTOOD)).toBe(false)
  expect(isOrdinary(PLAIN_SELECT)).toBe(true)
  expect(hasEffects(PLAIN_SELECT)).toBe(false)
})

it.each([
  'UPDATE t SET a = 1',
  'insert into t (a, b) values (1, current_timestamp)',
  'DELETE FROM t WHERE a = $1;',
  'WITH x AS (SELECT 1) UPDATE t SET a = 1',
])('%s is a plain write', (text) => {
  expect(isPlainWrite(judged(text))).toBe(true)
})

it.each([
  'UPDATE t SET a = 1; UPDATE t SET a = 2',
  'UPDATE t SET a = f(1)',
  "INSERT INTO t SELECT nextval('s')",
  "INSERT INTO t VALUES (currval('s'))",
  'DELETE FROM t RETURNING pg_advisory_lock(1)',
  'DELETE FROM t RETURNING pg_advisory_unlock(1)',
  "INSERT INTO t VALUES (set_config('a.b', 'c', false))",
  'SELECT 1',
  'SELECT a FROM t FOR UPDATE',
  'MERGE INTO t USING u ON a = b WHEN MATCHED THEN DELETE',
  'COPY t FROM STDIN',
  'CREATE TABLE t (a int)',
  'BEGIN',
  'COMMIT',
  'SET a.b = 1',
  'CALL f()',
  'EXPLAIN UPDATE t SET a = 1',
  '',
])('%s is none', (text) => {
  expect(isPlainWrite(judged(text))).toBe(false)
})

it('of a plain write there is nothing to be noted but that it writes', () => {
  const plain = [...corpus('others'), ...corpus('orm')].map(judged).filter(isPlainWrite)
  expect(plain.length).toBeGreaterThan(10)
  for (const classified of plain) {
    expect(stakeOf(classified)).toBe(WRITES)
    expect(hasEffects(classified)).toBe(false)
    expect([isUnclean(classified, true), isUnclean(classified, false)]).toEqual([false, false])
  }
})
