/** The session's machines and values: states as tables, settings, pins, what is dropped, time. */
import { describe, expect, test } from 'vitest'
import { CausalPosition } from '../../../src/client/causal.ts'
import { Input } from '../../../src/client/input.ts'
import { Pins } from '../../../src/client/pin.ts'
import { SessionSettings } from '../../../src/client/settings.ts'
import { NEXT_SESSION_STATES, SESSION_STATES } from '../../../src/client/states.ts'
import { timeoutOf } from '../../../src/client/timeouts.ts'
import {
  NEXT_TRANSACTION_STATES,
  TRANSACTION_STATES,
  Transaction,
} from '../../../src/client/transaction.ts'
import type { PoolConfig } from '../../../src/config/config.ts'
import { EMPTY_CATALOGUE } from '../../../src/routing/catalogue.ts'
import { classify, type Statement } from '../../../src/routing/classify.ts'
import { NO_SETTINGS, withSetting } from '../../../src/server/settings.ts'
import * as frame from '../../../src/wire/frame.ts'
import { frontend } from '../../support/bytes.ts'
import { member, topology } from '../../support/pools.ts'

/** Everything that can be reached from `from`, itself included. */
function reachable<S extends string>(from: S, next: Readonly<Record<S, readonly S[]>>): Set<S> {
  const seen = new Set<S>([from])
  for (const state of seen) for (const to of next[state]) seen.add(to)
  return seen
}

const judged = (sql: string) => classify(sql, EMPTY_CATALOGUE)

function statement(sql: string): Statement {
  const [first] = judged(sql).statements
  if (first === undefined) throw new Error(`no statement in ${sql}`)
  return first
}

describe('the tables', () => {
  test('every state of a session is reachable and can reach its end', () => {
    expect([...reachable('idle', NEXT_SESSION_STATES)].toSorted()).toEqual(
      [...SESSION_STATES].toSorted(),
    )
    for (const state of SESSION_STATES)
      expect(reachable(state, NEXT_SESSION_STATES), state).toContain('closed')
    expect(NEXT_SESSION_STATES.closed).toEqual([])
  })

  test('every state of a transaction is reachable and can reach idle', () => {
    expect([...reachable('idle', NEXT_TRANSACTION_STATES)].toSorted()).toEqual(
      [...TRANSACTION_STATES].toSorted(),
    )
    for (const state of TRANSACTION_STATES)
      expect(reachable(state, NEXT_TRANSACTION_STATES), state).toContain('idle')
  })
})

function deferred(sql = 'BEGIN'): Transaction {
  const transaction = new Transaction()
  transaction.defer(sql, judged(sql), 10)
  return transaction
}

describe('a transaction', () => {
  test('that was deferred tells T, keeps its text, and is forgotten when it ends', () => {
    const transaction = deferred('BEGIN READ ONLY')
    expect([transaction.status, transaction.isReadOnly]).toEqual([frame.STATUS_OPEN, true])
    expect(transaction.deferredText).toBe('BEGIN READ ONLY')
    transaction.ready(frame.STATUS_OPEN, 11)
    expect([transaction.state, transaction.deferredText]).toEqual(['open', null])
    transaction.ready(frame.STATUS_IDLE, 12)
    expect(transaction).toMatchObject({ state: 'idle', isReadOnly: false, startedMs: 0 })
  })

  test.each([
    ['COMMIT', 'COMMIT'],
    ['END', 'COMMIT'],
    ['ROLLBACK', 'ROLLBACK'],
    ['ABORT', 'ROLLBACK'],
  ])('that is empty is ended by %s without a server', (sql, tag) => {
    expect(deferred().localAnswer(statement(sql))).toEqual({
      kind: 'complete',
      tag,
      status: frame.STATUS_IDLE,
    })
  })

  test.each(['COMMIT AND CHAIN', 'ROLLBACK AND CHAIN', 'SELECT 1', 'SAVEPOINT a', 'BEGIN'])(
    'that is empty asks a server for %s',
    (sql) => {
      expect(deferred().localAnswer(statement(sql))).toBeNull()
    },
  )

  test('that was lost refuses everything up to its end, which answers ROLLBACK', () => {
    const transaction = deferred()
    transaction.lose(true, 1)
    transaction.lose(true, 2)
    expect(transaction.status).toBe(frame.STATUS_FAILED)
    for (const sql of ['SELECT 1', 'BEGIN', 'SAVEPOINT a'])
      expect(transaction.localAnswer(statement(sql)), sql).toEqual({ kind: 'refuse' })
    for (const sql of ['ROLLBACK TO a', 'RELEASE a'])
      expect(transaction.localAnswer(statement(sql)), sql).toEqual({ kind: 'lost', ends: false })
    for (const sql of ['COMMIT', 'ROLLBACK'])
      expect(transaction.localAnswer(statement(sql))).toMatchObject({ tag: 'ROLLBACK' })
  })

  test.each([
    [['BEGIN'], 'BEGIN'],
    [
      ['BEGIN READ ONLY, ISOLATION LEVEL REPEATABLE READ'],
      'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY',
    ],
    [['BEGIN READ WRITE'], null],
    [['BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE'], null],
    [['BEGIN', 'SET TRANSACTION READ ONLY'], null],
  ])('that was lost and was begun by %j goes on AND CHAIN with %j', (texts, begins) => {
    const transaction = new Transaction()
    for (const sql of texts) transaction.noteModes(statement(sql))
    transaction.lose(true, 1)
    for (const sql of ['COMMIT AND CHAIN', 'ROLLBACK AND CHAIN'])
      expect(transaction.localAnswer(statement(sql))).toEqual(
        begins === null
          ? { kind: 'lost', ends: false }
          : { kind: 'complete', tag: 'ROLLBACK', status: frame.STATUS_OPEN, begins },
      )
  })

  test('that was lost with its BEGIN on the way lasts since then', () => {
    const transaction = new Transaction()
    transaction.lose(true, 7)
    expect([transaction.state, transaction.startedMs]).toEqual(['lost', 7])
  })
})

const sqlOf = (settings: SessionSettings, name: string): string | undefined =>
  settings.current.entries.get(name)

describe('settings', () => {
  test('a rollback takes back everything since the transaction began, and only that', () => {
    const settings = new SessionSettings(NO_SETTINGS)
    settings.set('a', '1')
    settings.commit()
    settings.set('a', '2')
    settings.set('b', '3')
    settings.reset('a')
    settings.rollback()
    expect(sqlOf(settings, 'a')).toBe('SET "a" TO 1')
    expect(sqlOf(settings, 'b')).toBeUndefined()
    expect(settings.onServer).toBe(settings.current)
  })

  test('savepoints nest, may share a name, and end with their transaction', () => {
    const settings = new SessionSettings(NO_SETTINGS)
    settings.set('a', '0')
    settings.savepoint('s')
    settings.set('a', '1')
    settings.savepoint('s')
    settings.set('a', '2')
    settings.rollbackTo('s')
    expect(sqlOf(settings, 'a')).toBe('SET "a" TO 1')
    settings.set('a', '3')
    settings.rollbackTo('s')
    expect(sqlOf(settings, 'a')).toBe('SET "a" TO 1')
    settings.release('s')
    settings.rollbackTo('s')
    expect(sqlOf(settings, 'a')).toBe('SET "a" TO 0')
    settings.commit()
    settings.set('a', '9')
    settings.rollbackTo('s')
    expect(sqlOf(settings, 'a')).toBe('SET "a" TO 9')
  })

  test('RESET goes back to the log-in, and knows that the server did not', () => {
    const baseline = withSetting(NO_SETTINGS, 'a', 'SET "a" TO 5')
    const settings = new SessionSettings(baseline)
    settings.set('a', '6')
    settings.reset('a')
    expect(settings.current).toBe(baseline)
    expect(settings.onServer).toBe(NO_SETTINGS)
    settings.commit()
    settings.startOn(baseline)
    expect(settings.onServer).toBe(baseline)
  })

  test('RESET ALL keeps the role, DISCARD ALL does not', () => {
    const settings = new SessionSettings(NO_SETTINGS)
    settings.set('role', 'someone')
    settings.set('a', '1')
    settings.resetAll(false)
    expect([...settings.current.entries.keys()]).toEqual(['role'])
    expect([...settings.onServer.entries.keys()]).toEqual(['role'])
    settings.resetAll(true)
    expect(settings.current).toBe(NO_SETTINGS)
    expect(settings.onServer).toBe(NO_SETTINGS)
  })

  test("a report that no statement explains is the session's, one that a SET explains is not", () => {
    const settings = new SessionSettings(NO_SETTINGS)
    settings.report('TimeZone', 'Asia/Tokyo', 'UTC')
    expect(sqlOf(settings, 'timezone')).toContain('Asia/Tokyo')
    settings.report('TimeZone', 'UTC', 'UTC')
    expect(sqlOf(settings, 'timezone')).toBeUndefined()
    settings.set('timezone', "'Europe/Berlin'")
    settings.report('TimeZone', 'Europe/Berlin', 'UTC')
    expect(sqlOf(settings, 'timezone')).toBe("SET TIME ZONE 'Europe/Berlin'")
    settings.commit()
    settings.settle()
    settings.report('is_superuser', 'on', 'off')
    expect(sqlOf(settings, 'is_superuser')).toBeUndefined()
  })
})

describe('pins', () => {
  test('each reason ends by its own statement, as often as it began', () => {
    const pins = new Pins()
    expect(pins.apply(statement('SELECT pg_advisory_lock(1)'))).toEqual(['advisory_lock'])
    expect(pins.apply(statement('SELECT pg_advisory_lock(2)'))).toEqual([])
    pins.apply(statement('SELECT pg_advisory_unlock(1)'))
    expect(pins.isPinned).toBe(true)
    expect(pins.isProofDue).toBe(false)
    pins.apply(statement('SELECT pg_advisory_unlock(2)'))
    expect(pins.isProofDue).toBe(true)
    pins.proved(false)
    expect(pins.isPinned).toBe(false)
    pins.apply(statement('LISTEN a'))
    pins.apply(statement('PREPARE p AS SELECT 1'))
    expect(pins.reasons).toEqual(['listen', 'sql_prepare'])
    pins.apply(statement('UNLISTEN *'))
    expect(pins.reasons).toEqual(['sql_prepare'])
    pins.apply(statement('DISCARD ALL'))
    expect(pins.isPinned).toBe(false)
  })
})

describe('what an error made void', () => {
  test('a Query is dropped whole, and its ReadyForQuery is due at once', () => {
    const input = new Input()
    input.push(Buffer.concat([frontend.query('one'), frontend.query('two')]))
    const bytes = frontend.query('one').length
    expect(input.dropBatch({ bytes, endsReady: true, isWhole: true })).toBe(true)
    expect(input.bytes.equals(frontend.query('two'))).toBe(true)
    expect(input.drop()).toBe('done')
  })

  test('a batch without Sync is dropped up to it, wherever the chunks end', () => {
    const rest = Buffer.concat([
      frontend.bind({ values: ['x'.repeat(50)] }),
      frontend.execute(),
      frontend.sync(),
      frontend.query('next'),
    ])
    for (let cut = 0; cut <= rest.length; cut += 1) {
      const input = new Input()
      const first = frontend.parse('', 'SELECT 1')
      input.push(first)
      expect(input.dropBatch({ bytes: first.length, endsReady: false, isWhole: true })).toBe(false)
      let ready = 0
      const chunks = [rest.subarray(0, cut), rest.subarray(cut)]
      for (const chunk of chunks.filter(({ length }) => length > 0)) {
        input.push(Buffer.from(chunk))
        for (let outcome = input.drop(); outcome !== 'done'; outcome = input.drop())
          if (outcome === 'ready') ready += 1
      }
      expect(ready).toBe(1)
      expect(input.bytes.equals(frontend.query('next'))).toBe(true)
    }
  })

  test('a Query that was cut is dropped to its end, then ReadyForQuery is due', () => {
    const input = new Input()
    const bytes = frontend.query('x'.repeat(100))
    input.push(bytes.subarray(0, 40))
    expect(input.dropBatch({ bytes: 0, endsReady: false, isWhole: false })).toBe(false)
    expect(input.drop()).toBe('done')
    expect(input.isDropping).toBe(true)
    input.push(bytes.subarray(40))
    expect(input.drop()).toBe('ready')
    expect(input.length).toBe(0)
  })
})

function answer(
  position: CausalPosition,
  role: 'primary' | 'replica' | 'plain',
  name: string,
  nowMs: number,
): void {
  position.answered({ role, member: name, nowMs }, topology())
}

describe('the position of a session in the log', () => {
  const bound = { lsn: 100n, timeline: 1 }
  const read = (some: object = {}) => ({
    consistency: 'session' as const,
    nowMs: 50,
    boundFor: () => bound,
    ...some,
  })

  test('a write asks for a sample that was sent after its answer', () => {
    const position = new CausalPosition()
    answer(position, 'primary', 'pg1', 20)
    const asked: number[] = []
    const boundFor = (ms: number): null => {
      asked.push(ms)
      return null
    }
    position.beforeRead(read({ boundFor }))
    expect([asked, position.bound, position.dirtySinceMs]).toEqual([[20], null, 20])
    position.beforeRead(read())
    expect([position.bound, position.dirtySinceMs]).toEqual([bound, null])
  })

  test('a later write makes an earlier bound void', () => {
    const position = new CausalPosition()
    answer(position, 'primary', 'pg1', 20)
    position.beforeRead(read())
    answer(position, 'primary', 'pg1', 60)
    expect([position.bound, position.dirtySinceMs]).toEqual([null, 60])
  })

  test('a replica is kept with the moment of its last answer, and the start it was of', () => {
    const position = new CausalPosition()
    const members = [member('pg2', { sample: { started: '17' } })]
    position.beforeRead(read())
    position.answered({ role: 'replica', member: 'pg2', nowMs: 20 }, topology({ members }))
    position.beforeRead(read())
    expect(position).toMatchObject({ preferredMember: 'pg2', preferredMs: 20, preferredLife: '17' })
    position.beforeRead(read())
    const later = [member('pg2', { sample: { started: '18' } })]
    position.answered({ role: 'replica', member: 'pg2', nowMs: 40 }, topology({ members: later }))
    expect([position.preferredMs, position.preferredLife]).toEqual([40, '18'])
  })

  test('global takes its bound anew for each read, eventual forgets everything', () => {
    const position = new CausalPosition()
    position.beforeRead(read({ consistency: 'global', boundFor: () => null }))
    expect(position.dirtySinceMs).toBe(50)
    position.beforeRead(read({ consistency: 'eventual' }))
    expect([position.bound, position.dirtySinceMs, position.preferredMember]).toEqual([
      null,
      null,
      null,
    ])
  })

  test('one of many reads on the primary waits for replicas, ever more rarely while in vain', () => {
    const position = new CausalPosition()
    answer(position, 'primary', 'pg1', 1000)
    const waits: number[] = []
    for (let nowMs = 1000; nowMs < 4000; nowMs += 10) {
      position.beforeRead(read({ nowMs, boundFor: () => null }))
      if (position.patienceMs > 0) waits.push(nowMs)
      answer(position, 'primary', 'pg1', nowMs)
    }
    expect(waits).toEqual([1200, 1400, 1800, 2600])
    answer(position, 'primary', 'pg1', 4000)
    position.beforeRead(read({ nowMs: 4190, boundFor: () => null }))
    expect(position.patienceMs).toBe(0)
  })

  test('a setting answered by another replica leaves reads where they were', () => {
    const position = new CausalPosition()
    position.beforeRead(read())
    answer(position, 'replica', 'pg2', 20)
    answer(position, 'replica', 'pg3', 30)
    expect(position.preferredMember).toBe('pg2')
  })

  test('servers that are not routed leave no trace', () => {
    const position = new CausalPosition()
    answer(position, 'plain', 'h:1', 20)
    expect([position.bound, position.dirtySinceMs, position.preferredMember]).toEqual([
      null,
      null,
      null,
    ])
  })
})

describe('timeouts', () => {
  const ages = { queryMs: 0, transactionMs: 0, idleMs: 0, isOwed: false, isWaiting: false }
  const config = {
    transactionTimeoutMs: 1000,
    queryTimeoutMs: 500,
    idleTransactionTimeoutMs: 300,
    clientIdleTimeoutMs: 200,
  } as PoolConfig

  test.each([
    [{ transactionMs: 1001, isOwed: true }, 'transaction_timeout'],
    [{ queryMs: 501, isOwed: true, idleMs: 900 }, 'query_timeout'],
    [{ queryMs: 499, isOwed: true, idleMs: 900 }, null],
    [{ queryMs: 501, isWaiting: true, idleMs: 900 }, null],
    [{ transactionMs: 400, idleMs: 301 }, 'idle_transaction_timeout'],
    [{ transactionMs: 400, idleMs: 299 }, null],
    [{ idleMs: 201 }, 'client_idle_timeout'],
    [{ idleMs: 199 }, null],
  ])('%o gives %s', (some, code) => {
    expect(timeoutOf({ ...ages, ...some }, config)).toBe(code)
  })

  test('0 is no limit', () => {
    const none = {
      transactionTimeoutMs: 0,
      queryTimeoutMs: 0,
      idleTransactionTimeoutMs: 0,
      clientIdleTimeoutMs: 0,
    } as PoolConfig
    const long = { queryMs: 1e9, transactionMs: 1e9, idleMs: 1e9 }
    expect(timeoutOf({ ...ages, ...long, isOwed: true }, none)).toBeNull()
    expect(timeoutOf({ ...ages, ...long }, none)).toBeNull()
  })
})
