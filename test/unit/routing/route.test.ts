/** Where a batch goes: the rules in their order, the first that answers wins. */
import { describe, expect, test } from 'vitest'
import { classify } from '../../../src/routing/classify.ts'
import { REASONS, type RouteQuestion, routeBatch } from '../../../src/routing/route.ts'
import { CATALOGUE } from './oracle.ts'

const seen = new Set<string>()

/** The route of texts in a session that differs from the plain one by `change`. */
function route(texts: string | readonly string[], change: Partial<RouteQuestion> = {}): string {
  const list = typeof texts === 'string' ? [texts] : texts
  const answer = routeBatch({
    classified: list.map((text) => classify(text, CATALOGUE)),
    sessionRoute: 'split',
    inTransaction: 'no',
    pinned: false,
    defaultReadOnly: false,
    standardStrings: true,
    asciiSafeEncoding: true,
    readTransactions: 'primary',
    ...change,
  })
  seen.add(answer.reason)
  return `${answer.role} ${answer.reason}`
}

describe('first', () => {
  test('a session that holds a server stays there', () => {
    expect(route('delete from t', { pinned: true, sessionRoute: 'replica' })).toBe('any pinned')
  })

  test('then a hint, in any statement of the batch, before the route of the session', () => {
    expect(route('/* pgsteer: primary */ select 1', { sessionRoute: 'replica' })).toBe(
      'primary hint_primary',
    )
    expect(route(['select 1', '/* pgsteer: replica */ delete from t'])).toBe('replica hint_replica')
  })

  test('then the route of the session', () => {
    expect(route('select 1', { sessionRoute: 'primary' })).toBe('primary route_primary')
    expect(route('delete from t', { sessionRoute: 'replica' })).toBe('replica route_replica')
    expect(route('set a to 1', { sessionRoute: 'primary' })).toBe('primary route_primary')
  })

  test('then whether texts can be judged at all', () => {
    expect(route('select 1', { standardStrings: false })).toBe('primary strings')
    expect(route('set a to 1', { standardStrings: false })).toBe('primary strings')
    expect(route('select 1', { asciiSafeEncoding: false })).toBe('primary encoding')
    expect(route([], { functionCall: true })).toBe('primary function_call')
  })
})

describe('outside a transaction', () => {
  test('settings go to any server', () => {
    for (const text of [
      'set a to 1',
      'reset a',
      'reset all',
      'discard all',
      'deallocate p',
      'show search_path',
      'set local a to 1',
      'set a to 1; show a',
    ]) {
      expect([text, route(text)]).toEqual([text, 'any setting'])
    }
  })

  test('a setting that cannot be carried goes to the primary', () => {
    expect(route("set time zone interval '1' hour to minute")).toBe('primary session_state')
  })

  test('a SHOW of what no session can set is a read like others', () => {
    expect(route('show server_version')).toBe('replica read')
    expect(route('show search_path; select 1')).toBe('replica read')
    expect(route('show transaction_read_only')).toBe('primary server_relation')
  })

  test('a setting changed next to a read goes to the primary', () => {
    expect(route('set a to 1; select 1')).toBe('primary setting_and_read')
    expect(route(['select 1', 'reset a'])).toBe('primary setting_and_read')
  })

  test('reads go to a replica, all of them or none', () => {
    expect(route('select 1')).toBe('replica read')
    expect(route(['select 1', 'table t', 'explain select 1', 'copy t to stdout'])).toBe(
      'replica read',
    )
    expect(route(['select 1', 'delete from t'])).toBe('primary write')
  })

  test('everything else goes to the primary, with what it is', () => {
    expect(route('insert into t values (1)')).toBe('primary write')
    expect(route('select * from t for update')).toBe('primary locking_clause')
    expect(route('select 1 into t')).toBe('primary into')
    expect(route('with a as (delete from t returning 1) select * from a')).toBe(
      'primary data_modifying_cte',
    )
    expect(route('select audit()')).toBe('primary unproved_function')
    expect(route('copy t from stdin')).toBe('primary copy_target')
    expect(route('select "')).toBe('primary not_understood')
    expect(route('listen a')).toBe('primary session_state')
    expect(route('commit')).toBe('primary write')
  })

  test('SERIALIZABLE reads need the primary', () => {
    expect(route('select 1', { isolation: 'serializable' })).toBe('primary serializable')
  })

  test('a batch without a statement goes anywhere', () => {
    expect(route('')).toBe('any empty')
    expect(route([])).toBe('any empty')
    expect(route(['', 'select 1'])).toBe('replica read')
  })

  test('what a replica refused before goes to the primary', () => {
    const [read] = classify('select 1', CATALOGUE).statements
    if (read === undefined) throw new Error('no statement')
    const statements = [{ ...read, read: false, reason: 'learnt' as const }]
    const learnt = { statements, read: false, reason: 'learnt' as const, hint: null, functions: [] }
    expect(route([], { classified: [learnt] })).toBe('primary learnt')
    expect(route([], { classified: [learnt], inTransaction: 'read_only' })).toBe('primary learnt')
  })

  test('default_transaction_read_only makes every statement a READ ONLY transaction', () => {
    const change = { defaultReadOnly: true }
    expect(route('select audit()', change)).toBe('replica read_only_transaction')
    expect(route('select pg_advisory_lock(1)', change)).toBe('primary advisory_lock')
    expect(route('set a to 1', change)).toBe('any setting')
    expect(route('begin; select 1', change)).toBe('replica read_only_transaction')
    expect(route('begin read write; select 1', change)).toBe('primary transaction')
  })
})

describe('a READ ONLY transaction', () => {
  const change = { inTransaction: 'read_only' } as const

  test('goes to a replica with its first statement', () => {
    expect(route('select 1', change)).toBe('replica read_only_transaction')
    expect(route('select audit()', change)).toBe('replica read_only_transaction')
    expect(route('set local a to 1', change)).toBe('replica read_only_transaction')
    expect(route('begin read only; select 1; commit')).toBe('replica read_only_transaction')
    expect(route(['begin read only', 'select 1'])).toBe('replica read_only_transaction')
  })

  test('goes to the primary for what a standby cannot do or cannot keep', () => {
    expect(route('select pg_advisory_xact_lock(1)', change)).toBe('primary advisory_lock')
    expect(route('select 1', { ...change, isolation: 'serializable' })).toBe('primary serializable')
    expect(route('begin isolation level serializable, read only; select 1')).toBe(
      'primary serializable',
    )
    expect(route('listen a', change)).toBe('primary session_state')
    expect(route('notify a', change)).toBe('primary write')
    expect(route('table pg_locks', change)).toBe('primary server_relation')
    expect(route("copy t to '/x'", change)).toBe('primary copy_target')
    expect(route("select 'open", change)).toBe('primary not_understood')
  })

  test('ends with its COMMIT', () => {
    expect(route('begin read only; select 1; commit; delete from t')).toBe('primary write')
    expect(route('begin read only; select 1; commit and chain; select audit()')).toBe(
      'replica read_only_transaction',
    )
  })

  test('may be made by SET TRANSACTION', () => {
    expect(route('begin; set transaction read only; select 1')).toBe('primary transaction')
    expect(route('set transaction read only', { inTransaction: 'read_write' })).toBe(
      'replica read_only_transaction',
    )
    expect(route('set transaction read write', change)).toBe('primary transaction')
  })
})

describe('a transaction that may write', () => {
  const change = { inTransaction: 'read_write' } as const
  const untilWrite = { ...change, readTransactions: 'replica_until_write' } as const

  test('goes to the primary', () => {
    expect(route('select 1', change)).toBe('primary transaction')
    expect(route('begin')).toBe('primary transaction')
  })

  test('reads on a replica until it writes, where that is allowed', () => {
    expect(route('select 1', untilWrite)).toBe('replica read_transaction')
    expect(route('begin; select 1; commit', { readTransactions: 'replica_until_write' })).toBe(
      'replica read_transaction',
    )
    expect(route('update t set a = 1', untilWrite)).toBe('primary transaction')
    expect(route('select 1; update t set a = 1', untilWrite)).toBe('primary transaction')
    expect(route('set a to 1', untilWrite)).toBe('primary transaction')
  })

  test('reads on a replica in READ COMMITTED only', () => {
    expect(route('select 1', { ...untilWrite, isolation: 'repeatable_read' })).toBe(
      'primary transaction',
    )
    expect(
      route('begin isolation level repeatable read; select 1', {
        readTransactions: 'replica_until_write',
      }),
    ).toBe('primary transaction')
  })
})

test('every reason is given by some batch of these tests', () => {
  expect(REASONS.map(([reason]) => reason).filter((reason) => !seen.has(reason))).toEqual([])
})
