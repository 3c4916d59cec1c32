import { EventEmitter } from 'node:events'
import { describe, expect, test } from 'vitest'
import { type openDirect, shouldFlipTls, startsWithTls } from '../../../src/cluster/direct.ts'
import { classifyFailure, Probe, type ProbeFailure } from '../../../src/cluster/probe.ts'
import { FakeClock } from '../../support/clock.ts'
import { flush } from '../../support/pools.ts'

const ADDRESS = { host: 'pg1', port: 5432 }

function failure(code: string, message = 'because'): Error {
  return Object.assign(new Error(message), { code })
}

describe('what a failed probe proves', () => {
  test.for([
    ['refused', failure('ECONNREFUSED')],
    ['refused', failure('ECONNRESET')],
    ['refused', failure('57P03', 'the database system is starting up')],
    ['refused', failure('57P01')],
    ['refused', new Error('Connection terminated unexpectedly')],
    ['refused', new AggregateError([failure('ECONNREFUSED')])],
    ['denied', failure('28P01')],
    ['denied', failure('53300', 'sorry, too many clients already')],
    ['denied', failure('42501')],
    ['silent', failure('ETIMEDOUT')],
    ['silent', failure('ENOTFOUND')],
    ['silent', failure('EPERM')],
    ['silent', failure('55000', 'recovery is in progress')],
    ['silent', new Error('anything')],
  ] as const)('%s: %s', ([kind, error]) => {
    expect(classifyFailure(error, 1, ADDRESS)).toMatchObject({ kind, atMs: 1 })
  })

  test('the reason names the address', () => {
    expect(classifyFailure(failure('28P01', 'no'), 1, ADDRESS).reason).toBe('pg1:5432: no')
  })
})

describe('encryption as libpq means it', () => {
  test('prefer and above start with TLS', () => {
    const modes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const
    expect(modes.filter(startsWithTls)).toEqual(['prefer', 'require', 'verify-ca', 'verify-full'])
  })

  test('only allow and prefer try the other way, and only when it was about that', () => {
    const noTls = { code: '', reason: 'The server does not support SSL connections' }
    const noEntry = { code: '28000', reason: 'no pg_hba.conf entry' }
    const other = { code: '28P01', reason: 'password authentication failed' }
    expect(shouldFlipTls('prefer', true, noTls)).toBe(true)
    expect(shouldFlipTls('require', true, noTls)).toBe(false)
    expect(shouldFlipTls('allow', false, noEntry)).toBe(true)
    expect(shouldFlipTls('prefer', true, noEntry)).toBe(true)
    expect(shouldFlipTls('prefer', true, other)).toBe(false)
  })
})

function query(): Promise<unknown> {
  return Promise.resolve({ rows: [{ in_recovery: 't', started: '1' }] })
}

/** A member that answers until nobody listens any more; its connections end as the test says. */
class Asked {
  readonly clock = new FakeClock()
  readonly failures: ProbeFailure[] = []
  readonly connections: { client: EventEmitter; lost: Error | null; hasWarned: boolean }[] = []
  isGone = false
  answers = query

  constructor() {
    const connect = (): Promise<void> =>
      this.isGone ? Promise.reject(failure('ECONNREFUSED')) : Promise.resolve()
    const open = ((address: typeof ADDRESS) => {
      const client = Object.assign(new EventEmitter(), { connect, query: () => this.answers() })
      const direct = { client, address, lost: null, hasWarned: false, drop: () => undefined }
      this.connections.push(direct)
      return direct
    }) as unknown as typeof openDirect
    const access = { user: 'p', password: '', database: 'd', timeoutMs: 1000 }
    const probe = new Probe(
      { name: 'pg2', addresses: [ADDRESS] },
      { ...access, tls: { mode: 'disable' } },
      this.clock,
      {
        events: { answered: () => {}, failed: (one) => this.failures.push(one) },
        periodMs: 500,
        failurePeriodMs: 500,
        open,
      },
    )
    probe.start()
  }

  async pass(ms: number): Promise<void> {
    this.clock.advance(ms)
    await flush()
    await flush()
  }

  /** The connection ends while nothing is asked, and nobody takes a new one. */
  async end(error: Error, hasWarned = false): Promise<void> {
    const connection = this.connections.at(-1)
    if (connection === undefined) throw new Error('the probe has a connection')
    this.isGone = true
    connection.hasWarned = hasWarned
    connection.lost = error
    connection.client.emit('error', error)
    await this.pass(0)
  }
}

const BARE = new Error('Connection terminated unexpectedly')

test('an answer that lay there while this process did not run is in time', async () => {
  const asked = new Asked()
  await asked.pass(100)
  const { promise, resolve } = Promise.withResolvers<unknown>()
  asked.answers = () => promise
  asked.clock.advance(500)
  await flush()
  asked.clock.stall(1600)
  resolve(await query())
  await asked.pass(100)
  expect(asked.failures).toEqual([])
  asked.answers = () => new Promise(() => undefined)
  await asked.pass(600)
  await asked.pass(1600)
  expect(asked.failures).toMatchObject([{ kind: 'silent' }])
})

describe('the end of an idle connection', () => {
  test('without a word is told with the failures behind it, until there is an answer', async () => {
    const asked = new Asked()
    await asked.pass(100)
    const endMs = asked.clock.nowMs()
    await asked.end(BARE)
    await asked.pass(500)
    expect(asked.failures.map(({ silentEndMs }) => silentEndMs)).toEqual([endMs, endMs])
    asked.isGone = false
    await asked.pass(500)
    await asked.end(failure('57P01', 'terminating connection'))
    expect(asked.failures.at(-1)?.silentEndMs).toBeNull()
  })

  test.for([
    ['a warning of a crash', BARE, true],
    ['a word of its own', failure('57P01', 'terminating connection'), false],
  ] as const)('with %s is no silent one', async ([, error, hasWarned]) => {
    const asked = new Asked()
    await asked.pass(100)
    await asked.end(error, hasWarned)
    expect(asked.failures).toHaveLength(1)
    expect(asked.failures[0]?.silentEndMs).toBeNull()
  })
})
