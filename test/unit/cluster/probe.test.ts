import { describe, expect, test } from 'vitest'
import { shouldFlipTls, startsWithTls } from '../../../src/cluster/direct.ts'
import { classifyFailure } from '../../../src/cluster/probe.ts'

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
