/** What single statements are and leave behind, one behaviour per test. */
import { describe, expect, test } from 'vitest'
import { catalogueOf, EMPTY_CATALOGUE } from '../../../src/routing/catalogue.ts'
import { type Classified, classify, type Statement } from '../../../src/routing/classify.ts'
import { TEXT_BYTES_MAX } from '../../../src/routing/lexer.ts'
import { bytesOf, CATALOGUE } from './oracle.ts'

function of(text: string): Classified {
  return classify(bytesOf(text), CATALOGUE)
}

function only(text: string): Statement {
  const [statement] = of(text).statements
  if (statement === undefined) throw new Error('no statement')
  return statement
}

describe('a read', () => {
  test('is none while the catalogue is not known, if it calls anything', () => {
    expect(classify('select now()', EMPTY_CATALOGUE).reason).toBe('unproved_function')
    expect(classify('select a from t', EMPTY_CATALOGUE).read).toBe(true)
  })

  test.each([
    ['select * from t for share', 'locking_clause'],
    ['select 1 into t', 'into'],
    ['with a as (delete from t returning *) select * from a', 'data_modifying_cte'],
    ["select nextval('s')", 'unproved_function'],
    ['select audit()', 'unproved_function'],
    ['table pg_stat_activity', 'server_relation'],
    ['show in_hot_standby', 'server_relation'],
    ['insert into t values (1)', 'verb'],
    ['copy t from stdin', 'copy_target'],
    ["copy (select 1) to '/x'", 'copy_target'],
    ["select 'open", 'not_understood'],
    ['frobnicate', 'not_understood'],
    ['', 'empty'],
    ['-- nothing', 'empty'],
  ])('is refused with its reason: %s', (text, reason) => {
    expect(of(text)).toMatchObject({ read: false, reason })
  })

  test('of a name longer than PostgreSQL keeps is none', () => {
    expect(of(`select ${'lower'.padEnd(64, 'x')}(1)`).read).toBe(false)
  })

  test('of a name that is not ASCII is none, even if its bytes spell a proved name', () => {
    const catalogue = catalogueOf({
      database: 'd',
      serial: 1,
      volatileNames: ['fün'],
      stableOrImmutableNames: [bytesOf('fün')],
      userNames: [],
    })
    expect(classify(bytesOf('select fün(1)'), catalogue).read).toBe(false)
  })

  test.each(['\r', '\n'])('is not seen in a comment that has ended', (end) => {
    expect(of(`select 1 -- x${end}; delete from t`).reason).toBe('verb')
  })

  test.each([
    'select 1a',
    "select 1E'x\\'' || audit(1) --'",
    "select $1E'x'",
    'select 0x',
    'select 1e',
    "select 0b'1'",
  ])('is none where versions of PostgreSQL cut the text differently: %s', (text) => {
    expect(of(text).reason).toBe('not_understood')
  })

  test('names what it names as PostgreSQL folds it', () => {
    expect(only('savepoint ABCDEFGHIJKLMNOPQRSTUVWXYZ').name).toBe('abcdefghijklmnopqrstuvwxyz')
    expect(only('savepoint Z').name).toBe('z')
    expect(only('savepoint Été').name).toBe(bytesOf('Été'))
    expect(only('savepoint "A""b"').name).toBe('A"b')
  })

  test('names the functions that were called', () => {
    expect(of('select lower(a), s."Fn"(b) from g(1)').functions).toEqual(['lower', 'Fn', 'g'])
  })

  test('of several statements is one only if all are', () => {
    expect(of('select 1; select 2').read).toBe(true)
    expect(of('select 1; delete from t; select 2')).toMatchObject({ read: false, reason: 'verb' })
  })
})

describe('a text', () => {
  test('over its bound is not looked at', () => {
    const long = `select '${'x'.repeat(TEXT_BYTES_MAX)}'`
    expect(of(long)).toMatchObject({ read: false, reason: 'not_understood' })
  })

  test('that nests without end costs no stack', () => {
    expect(of(`select ${'('.repeat(200_000)}1${')'.repeat(200_000)}`).reason).toBe('not_understood')
    expect(of('explain '.repeat(100_000)).reason).toBe('not_understood')
    expect(of('/*'.repeat(200_000)).reason).toBe('not_understood')
  })

  test.each([
    ['parentheses', `select ${'('.repeat(400_000)}`],
    ['calls', `select ${'set_config('.repeat(90_000)}`],
    ['entries', `with ${'a(b), '.repeat(140_000)}`],
    ['tags', `select ${'$a$ '.repeat(250_000)}`],
    ['distinct tags', `select ${Array.from({ length: 100_000 }, (_, i) => `$a${i}$`).join(' ')}`],
    ['quotes', `select ${"''".repeat(500_000)}`],
    ['dots', `select ${'a.'.repeat(500_000)}a(1)`],
    ['create bodies', `create ${'begin atomic case '.repeat(50_000)}`],
    ['statements', 'select 1;'.repeat(100_000)],
    ['options', `explain ${'('.repeat(500_000)}`],
    ['copies', `copy ${'('.repeat(500_000)}`],
    ['modes', `begin ${'read only,'.repeat(100_000)} read only`],
    ['temporary', `create ${'x.'.repeat(400_000)}x`],
    ['drops', `drop table ${'x,'.repeat(400_000)}x`],
    ['declares', `declare c ${'with '.repeat(200_000)} x`],
  ])('costs time in step with its length: %s', (_, text) => {
    const before = process.cpuUsage().user
    classify(text.slice(0, TEXT_BYTES_MAX), CATALOGUE)
    expect(process.cpuUsage().user - before).toBeLessThan(2_000_000)
  })

  test('is cut without a trace of the longer one before it', () => {
    of('select a from t join (select 1) x(a) on true for update')
    expect(of('begin').statements).toMatchObject([{ verb: 'begin', bare: true }])
    expect(of('select x for').reason).toBe('select')
  })
})

describe('a hint', () => {
  test.each([
    ['/* pgsteer: primary */ select 1', 'primary'],
    ['/*pgsteer:replica*/ select 1', 'replica'],
    ['-- x\n/* other */ /* PGSTEER: Replica */ select 1', 'replica'],
    ['/* pgsteer: primary */ /* pgsteer: replica */ select 1', 'primary'],
    ['select 1 /* pgsteer: primary */', null],
    ['/* pgsteer: primary please */ select 1', null],
    ["select '/* pgsteer: primary */'", null],
  ])('stands in a leading comment: %s', (text, hint) => {
    expect(of(text).hint).toBe(hint)
  })
})

describe('transaction control', () => {
  test.each([
    ['begin', { verb: 'begin', bare: true }],
    ['begin read only', { verb: 'begin', readOnly: true }],
    ['start transaction read write', { verb: 'begin', readOnly: false }],
    ['begin work isolation level serializable, not deferrable', { isolation: 'serializable' }],
    ['begin isolation level read uncommitted', { isolation: 'read_committed' }],
    ['commit', { verb: 'commit' }],
    ['end work', { verb: 'commit' }],
    ['commit and chain', { verb: 'commit', chain: true }],
    ['abort transaction and no chain', { verb: 'rollback', chain: false }],
    ['rollback to "A b"', { verb: 'rollback_to', name: 'A b' }],
    ['rollback work to savepoint X', { verb: 'rollback_to', name: 'x' }],
    ['savepoint Savepoint', { verb: 'savepoint', name: 'savepoint' }],
    ['release savepoint', { verb: 'release', name: 'savepoint' }],
    ['release savepoint b', { verb: 'release', name: 'b' }],
    ["prepare transaction 'x'", { verb: 'prepare_transaction' }],
    ["commit prepared 'x'", { verb: 'commit_prepared' }],
    ["rollback prepared 'x'", { verb: 'rollback_prepared' }],
  ])('is read: %s', (text, fields) => {
    expect(only(text)).toMatchObject({ ...fields, read: false })
  })

  test.each([
    'begin x',
    'begin read',
    'commit x',
    'commit and',
    'rollback to',
    'savepoint',
    'start',
    'release a b',
    'begin read only,',
    'begin , read only',
  ])('is not guessed: %s', (text) => {
    expect(only(text).reason).toBe('not_understood')
  })
})

describe('a statement pins', () => {
  test.each([
    ['listen Chan', { name: 'chan', pins: ['listen'] }],
    ['create temp table T (a int)', { name: 't', pins: ['temp_table'] }],
    ['create temporary sequence if not exists s', { name: 's', pins: ['temp_table'] }],
    ['create or replace temp view v as select 1', { name: 'v', pins: ['temp_table'] }],
    ['create local temp table t as select 1', { name: 't', pins: ['temp_table'] }],
    ['create table pg_temp.t (a int)', { name: 't', pins: ['temp_table'] }],
    ['select 1 into temp t', { pins: ['temp_table'] }],
    ['(select 1 into temporary t)', { pins: ['temp_table'] }],
    ['select pg_advisory_lock(1)', { pins: ['advisory_lock'], takesAdvisoryLock: true }],
    ['insert into t select pg_try_advisory_lock(1)', { pins: ['advisory_lock'] }],
    ['declare C cursor with hold for select 1', { name: 'c', pins: ['hold_cursor'] }],
    ['prepare "P" as select 1', { name: 'P', pins: ['sql_prepare'] }],
    ["select set_config('a.b', 'c', false)", { pins: ['set_config'] }],
    ["select set_config('a.b', 'c', $1)", { pins: ['set_config'] }],
    ["load 'x'", { pins: ['load'] }],
    ["select currval('s')", { pins: ['sequence_value'] }],
    ['insert into t values (lastval())', { pins: ['sequence_value'] }],
    [
      'select pg_advisory_lock(1), pg_advisory_lock(2)',
      { pins: ['advisory_lock', 'advisory_lock'] },
    ],
  ])('%s', (text, fields) => {
    expect(only(text)).toMatchObject(fields)
  })

  test.each([
    'create table t (a int)',
    'create temp table t (a int) on commit drop',
    "select set_config('a.b', $1, true)",
    'select pg_advisory_xact_lock(1)',
    'declare c cursor for select 1',
    'declare c cursor without hold for select 1',
    "prepare transaction 'x'",
    "select nextval('s')",
    'insert into temp values (1)',
    'select listen, load from t',
  ])('but not: %s', (text) => {
    expect(only(text).pins).toBeUndefined()
  })

  test('until something takes the pin away', () => {
    expect(only('unlisten *').unpins).toEqual(['listen'])
    expect(only('unlisten a')).toMatchObject({ name: 'a' })
    expect(only('discard all')).toMatchObject({ name: 'all', unpins: ['all'] })
    expect(only('discard temporary')).toMatchObject({ name: 'temp', unpins: ['temp_table'] })
    expect(only('discard sequences').unpins).toEqual(['sequence_value'])
    expect(only('discard plans').unpins).toBeUndefined()
    expect(only('deallocate all').unpins).toEqual(['sql_prepare'])
    expect(only('deallocate prepare X')).toMatchObject({ name: 'x' })
    expect(only('close all').unpins).toEqual(['hold_cursor'])
    expect(only('close "C"')).toMatchObject({ name: 'C' })
    expect(only('select pg_advisory_unlock_all()').unpins).toEqual(['advisory_lock'])
    expect(only('select pg_advisory_unlock(1)').advisoryUnlock).toBe(true)
    expect(only('drop table if exists A, s."B" cascade').names).toEqual(['a', 'B'])
  })
})

describe('hidden effects are possible', () => {
  test.each([
    'do $$ begin end $$',
    'call p(1)',
    'select audit()',
    'select unknown_function()',
    'insert into t values (audit())',
    'create table t as select audit()',
    'explain analyze select audit()',
    'declare c cursor for select audit()',
    "select 'open",
    'frobnicate',
    'prepare p as select audit()',
  ])('after %s', (text) => {
    expect(only(text).unclean).toBe(true)
  })

  test.each([
    "select nextval('s'), pg_sleep(1), lower('x'), my_stable(1)",
    'insert into t (a, b) values (1, 2) on conflict (a) do update set (a, b) = (1, 2)',
    'insert into s.t (a) select lower(x) from u',
    'with a (x) as (select 1) insert into t (a) select x from a',
    'merge into t using u on (true) when not matched then insert (a) values (1)',
    'create table t (a int references u (id), b numeric(10, 2), unique (a))',
    'create index on t using gin (a gin_trgm_ops)',
    'update t set a = coalesce(b, (1)) where (a) in (1)',
    'delete from t using (select 1) u (x)',
    'copy t (a, b) from stdin (format csv)',
    'truncate t',
    'begin',
    'set a to 1',
  ])('but not after %s', (text) => {
    expect(only(text).unclean).toBe(false)
  })
})
