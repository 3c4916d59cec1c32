/** Which batches may stand behind those of others on one server. */
import { describe, expect, test } from 'vitest'
import { BatchReader } from '../../../src/client/batch.ts'
import { SessionPrepared } from '../../../src/client/prepared.ts'
import { isSharable, isUnit } from '../../../src/client/unit.ts'
import { PreparedRegistry } from '../../../src/server/prepared.ts'
import { configStatement, internSettings, type Settings } from '../../../src/server/settings.ts'
import { frontend } from '../../support/bytes.ts'
import { judgeBy } from '../../support/judge.ts'
import { CATALOGUE } from '../routing/oracle.ts'

const BYTES_MAX = 16_384
const READ = 'SELECT a FROM t WHERE id = $1'

function isUnitOf(...messages: readonly Buffer[]): boolean {
  const reader = new BatchReader()
  const limits = { batchBytesMax: 65_536, frameBytesMax: 1 << 20, isRouted: true }
  const prepared = new SessionPrepared(new PreparedRegistry())
  reader.read(Buffer.concat(messages), prepared, judgeBy(CATALOGUE), limits)
  return isUnit(reader, BYTES_MAX)
}

describe('a Query', () => {
  test.each([
    'SELECT a FROM t',
    'select lower(a) from t where id = 7;',
    'VALUES (1)',
    'TABLE t',
    'WITH x AS (SELECT 1) SELECT * FROM x',
  ])('%s may ride', (text) => {
    expect(isUnitOf(frontend.query(text))).toBe(true)
  })

  test.each([
    '',
    'SELECT 1; SELECT 2',
    'BEGIN',
    'BEGIN; SELECT 1',
    'COMMIT AND CHAIN',
    'START TRANSACTION READ ONLY',
    'INSERT INTO t VALUES (1)',
    'SELECT * INTO u FROM t',
    'SELECT * FROM t FOR UPDATE',
    'WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x',
    'COPY t TO STDOUT',
    'COPY t FROM STDIN',
    'SHOW search_path',
    'EXPLAIN ANALYZE SELECT 1',
    'SET search_path TO x',
    "SELECT set_config('search_path', 'x', false)",
    "SELECT current_setting('transaction_read_only')",
    'SELECT setseed(0.5)',
    'SELECT pg_advisory_lock(1)',
    'SELECT pg_try_advisory_lock_shared(1, 2)',
    "SELECT nextval('s')",
    "SELECT currval('s')",
    'SELECT lastval()',
    'SELECT audit()',
    "SELECT dblink('x', 'DELETE FROM t')",
    'SELECT * FROM pg_stat_activity',
    'SELECT pg_is_in_recovery()',
    'DECLARE c CURSOR FOR SELECT 1',
    'FETCH c',
    'PREPARE p AS SELECT 1',
    'EXECUTE p',
    'LISTEN x',
    "NOTIFY x, 'y'",
    'LOCK TABLE t',
    'DO $$ BEGIN END $$',
    'CALL p()',
    'DISCARD ALL',
    'SELECT "unterminated',
  ])('%s may not', (text) => {
    expect(isUnitOf(frontend.query(text))).toBe(false)
  })

  test('that is long may not', () => {
    expect(isUnitOf(frontend.query(`SELECT '${'x'.repeat(BYTES_MAX)}'`))).toBe(false)
  })
})

describe('extended messages', () => {
  const parse = frontend.parse('', READ)
  const bind = frontend.bind({ values: ['1'] })
  const [execute, sync] = [frontend.execute(), frontend.sync()]

  test.each<[string, readonly Buffer[], boolean]>([
    ['Parse, Bind, Execute, Sync', [parse, bind, execute, sync], true],
    [
      'with Describe',
      [parse, frontend.describe('S'), bind, frontend.describe('P'), execute, sync],
      true,
    ],
    ['without Sync', [parse, bind, execute, frontend.flush()], false],
    ['a Flush between', [parse, frontend.flush(), bind, execute, sync], false],
    ['only prepared', [parse, frontend.describe('S'), sync], false],
    ['executed twice', [parse, bind, execute, execute, sync], false],
    ['two portals', [parse, bind, execute, bind, execute, sync], false],
    ['a part of the rows', [parse, bind, frontend.execute('', 1), sync], false],
    ['a portal that is closed', [parse, bind, execute, frontend.close('P'), sync], false],
    ['a statement nobody knows', [frontend.bind({ statement: 'x' }), execute, sync], false],
    ['a write', [frontend.parse('', 'DELETE FROM t'), bind, execute, sync], false],
    [
      'a write that is only prepared with it',
      [frontend.parse('w', 'DELETE FROM t'), parse, bind, execute, sync],
      false,
    ],
    ['a function call', [frontend.functionCall(1, [])], false],
  ])('%s', (_, messages, isExpected) => {
    expect(isUnitOf(...messages)).toBe(isExpected)
  })
})

function settingsOf(name: string, value: string): Settings {
  return internSettings(new Map([[name, configStatement(name, value)]]))
}

test('sessions whose settings change what a text means, or what is read-only, share no server', () => {
  expect(isSharable(internSettings(new Map()))).toBe(true)
  expect(isSharable(settingsOf('application_name', 'x'))).toBe(true)
  expect(isSharable(settingsOf('client_encoding', 'UTF8'))).toBe(true)
  expect(isSharable(settingsOf('client_encoding', 'SJIS'))).toBe(false)
  expect(isSharable(settingsOf('standard_conforming_strings', 'off'))).toBe(false)
  expect(isSharable(settingsOf('default_transaction_read_only', 'off'))).toBe(false)
  expect(isSharable(settingsOf('default_transaction_isolation', 'serializable'))).toBe(false)
})
