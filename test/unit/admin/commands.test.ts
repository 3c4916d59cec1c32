import { describe, expect, it, test } from 'vitest'
import { type ConsoleResult, type ConsoleRole, runCommand } from '../../../src/admin/commands.ts'
import { ProxyError } from '../../../src/base/errors.ts'
import { type FakeActions, fakeActions } from '../../support/actions.ts'
import { snapshotOf } from '../../support/facts.ts'

function ask(
  sql: string,
  actions: FakeActions = fakeActions(),
  role: ConsoleRole = 'admin',
): Promise<ConsoleResult> {
  return runCommand(sql, role, actions, 'pgbouncer')
}

/** SQLSTATE and text of an error, the tag of anything else. */
async function said(sql: string, actions?: FakeActions, role?: ConsoleRole): Promise<string> {
  const result = await ask(sql, actions, role)
  if (result.kind === 'error') return `${result.error.sqlstate} ${result.error.message}`
  return result.kind === 'empty' ? '' : result.tag
}

describe('commands are carried out and answered with the tags of PgBouncer', () => {
  test.each([
    ['reload', 'RELOAD', ['reload']],
    ['restart workers', 'RESTART', ['restart_workers']],
    ['pause', 'PAUSE', ['pause']],
    ['pause app', 'PAUSE', ['pause app']],
    ['disable app', 'DISABLE', ['disable app']],
    ['enable legacy', 'ENABLE', ['enable legacy']],
    ['reconnect', 'RECONNECT', ['reconnect']],
    ['reconnect app', 'RECONNECT', ['reconnect app']],
    ['kill', 'KILL', ['kill']],
    ['kill_client 7', 'KILL_CLIENT', ['kill_client 7']],
    ['wait_close', 'WAIT_CLOSE', ['wait_close']],
    ['shutdown wait_for_servers', 'SHUTDOWN', ['shutdown wait_for_servers']],
    ['set max_client_conn = 120', 'SET max_client_conn=120', ['set max_client_conn=120']],
    ['set timezone = utc', 'SET', []],
    ['show version', 'SHOW', []],
    ['', '', []],
  ])('%j: %s', async (sql, tag, calls) => {
    const actions = fakeActions()
    expect(await said(sql, actions)).toBe(tag)
    expect(actions.calls).toEqual(calls)
  })
})

describe('refusals have the texts and the SQLSTATE of PgBouncer, and change nothing', () => {
  test.each([
    ['resume', '08P01 pooler is not paused/suspended'],
    ['resume app', '08P01 database app is not paused'],
    ['resume nope', '08P01 no such database: nope'],
    ['pause nope', '08P01 no such database: nope'],
    ['pause pgbouncer', '08P01 cannot pause admin db: pgbouncer'],
    ['kill pgbouncer', '08P01 cannot kill admin db: pgbouncer'],
    ['reconnect pgbouncer', '08P01 cannot reconnect admin db: pgbouncer'],
    ['wait_close pgbouncer', '08P01 cannot wait in admin db: pgbouncer'],
    ['disable pgbouncer', '08P01 cannot disable admin db: pgbouncer'],
    ['enable pgbouncer', '08P01 cannot enable admin db: pgbouncer'],
    ['enable', '08P01 a database is required'],
    ['disable', '08P01 a database is required'],
    ['kill_client x', '08P01 invalid client pointer supplied'],
    ['set bla = 1', '08P01 SET failed'],
    ['hello', "08P01 invalid command 'hello', use SHOW HELP;"],
    [`pause ${'x'.repeat(70)}`, '08P01 bad arguments'],
  ])('%j: %s', async (sql, text) => {
    const actions = fakeActions()
    expect(await said(sql, actions)).toBe(text)
    expect(actions.calls).toEqual([])
  })

  it('KILL_CLIENT of nobody is not found', async () => {
    expect(await said('kill_client 8')).toBe('08P01 client not found')
  })

  it('PAUSE and KILL while paused are refused, RESUME ends it', async () => {
    const actions = fakeActions()
    expect(await said('pause', actions)).toBe('PAUSE')
    expect(await said('pause', actions)).toBe('08P01 already suspended/paused')
    expect(await said('kill app', actions)).toBe('08P01 already suspended/paused')
    expect(await said('resume', actions)).toBe('RESUME')
    expect(actions.calls).toEqual(['pause', 'resume'])
  })

  it('RESUME of a database needs a PAUSE of it', async () => {
    const actions = fakeActions()
    await said('pause app', actions)
    expect(await said('resume app', actions)).toBe('RESUME')
  })

  it('RESUME does not undo a shutdown', async () => {
    const state = { ...snapshotOf().state, shutdown: 'wait_for_servers', isPaused: true } as const
    const actions = fakeActions({ snapshotOf: () => snapshotOf({ state }) })
    expect(await said('resume', actions)).toBe('08P01 pooler is shutting down')
  })

  it('a failed RELOAD is F0000 and says in the detail what is wrong', async () => {
    const actions = fakeActions({
      reload: () => Promise.reject(new Error('line 3: unknown key')),
    })
    const result = await ask('reload', actions)
    expect(result).toMatchObject({
      kind: 'error',
      error: {
        sqlstate: 'F0000',
        message: 'RELOAD failed, see logs for additional details',
        detail: 'line 3: unknown key',
      },
    })
  })

  it('a failed SET says in the detail what is wrong', async () => {
    expect(await ask('set bla = 1')).toMatchObject({
      error: { message: 'SET failed', detail: 'bla is not a setting' },
    })
  })

  it("error_codes = postgres sends PostgreSQL's own code", async () => {
    const result = await runCommand('pause nope', 'admin', fakeActions(), 'postgres')
    expect(result).toMatchObject({ error: { sqlstate: '3D000', code: 'console_database' } })
  })

  it('what nobody expected is an answer too', async () => {
    const actions = fakeActions({
      pause: () => Promise.reject(new Error('worker 1 does not answer')),
      explainRoute: () => Promise.reject(new ProxyError('internal', { reason: 'no catalogue' })),
    })
    expect(await said('pause', actions)).toBe(
      '58000 the command could not be carried out: worker 1 does not answer',
    )
    expect(await said('explain route select 1', actions)).toBe(
      'XX000 internal error, please report it: no catalogue',
    )
  })
})

describe('stats_users may look and nothing else', () => {
  test.each([
    'show pools',
    'show clients',
    'show help',
    'explain route select 1',
    'set datestyle = iso',
    'show config',
  ])('%j is answered', async (sql) => {
    const result = await ask(sql, fakeActions(), 'stats')
    expect(result.kind).not.toBe('error')
  })

  test.each([
    'reload',
    'pause',
    'pause app',
    'resume',
    'resume app',
    'disable app',
    'disable',
    'enable app',
    'reconnect',
    'kill',
    'kill app',
    'kill_client 7',
    'shutdown',
    'shutdown wait_for_clients',
    'wait_close',
    'set max_client_conn = 5',
  ])('%j needs an admin', async (sql) => {
    const actions = fakeActions()
    expect(await said(sql, actions, 'stats')).toBe('08P01 admin access needed')
    expect(actions.calls).toEqual([])
  })
})

it('SHOW HELP is a notice with the commands in its detail', async () => {
  const result = await ask('show help')
  expect(result).toMatchObject({
    kind: 'done',
    tag: 'SHOW',
    notices: [{ message: 'Console usage' }],
  })
  expect(JSON.stringify(result)).toContain('KILL_CLIENT <client_id>')
})

it('RELOAD repeats what needs a restart as notices', async () => {
  expect(await ask('reload')).toMatchObject({
    notices: [{ message: 'listen_port needs a restart', detail: null }],
  })
})

it('drivers that ask for settings get the answers of PgBouncer', async () => {
  expect(await ask('show standard_conforming_strings')).toMatchObject({
    kind: 'rows',
    columns: [{ name: 'standard_conforming_strings', type: 'text' }],
    rows: [['on']],
  })
})

it('EXPLAIN ROUTE says where a statement goes and why', async () => {
  const actions = fakeActions()
  expect(await ask('explain route in app select 1', actions)).toMatchObject({
    kind: 'rows',
    rows: [['replica', 'read', 'pg2', 'a select']],
  })
  expect(actions.calls).toEqual(['explain app select 1'])
  expect(await said('explain route in nope select 1')).toBe('08P01 no such database: nope')
})

it('asks workers for the long lists only where a view shows them', async () => {
  const asked: string[] = []
  const snapshot: FakeActions['snapshot'] = (detail) => {
    asked.push(detail)
    return Promise.resolve(snapshotOf())
  }
  await ask('show pools', fakeActions({ snapshot }))
  await ask('show clients', fakeActions({ snapshot }))
  expect(asked).toEqual(['counts', 'all'])
})
