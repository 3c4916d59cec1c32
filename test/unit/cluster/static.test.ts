import { describe, expect, test } from 'vitest'
import type { Testimony } from '../../../src/cluster/evidence.ts'
import { type Election, elect, NO_ELECTION } from '../../../src/cluster/static.ts'

/** Each member as the timeline it claims to write on, or why it does not. */
function votes(
  members: Record<string, number | 'replica' | 'silent' | 'unasked'>,
): Map<string, Testimony> {
  return new Map(
    Object.entries(members).map(([name, said]): [string, Testimony] => {
      if (said === 'unasked') return [name, { sample: null, failure: null }]
      const sample = {
        sentMs: 0,
        receivedMs: 0,
        inRecovery: said === 'replica',
        systemIdentifier: '1',
        timeline: typeof said === 'number' ? said : 1,
        writeLsn: null,
        insertLsn: null,
        replayLsn: null,
        receiveLsn: null,
      }
      const failure = { kind: 'silent' as const, code: '', reason: 'silent', atMs: 0 }
      return [name, { sample, failure: said === 'silent' ? failure : null }]
    }),
  )
}

function after(...rounds: Parameters<typeof votes>[0][]): Election {
  let election = NO_ELECTION
  for (const round of rounds) election = elect(election, votes(round))
  return election
}

describe('a static list', () => {
  test('the only claim makes a leader', () => {
    expect(after({ a: 1, b: 'replica' }).leader).toEqual({ name: 'a', epoch: '1' })
  })

  test('nobody leads before every member was asked', () => {
    expect(after({ a: 1, b: 'unasked' }).leader).toBeNull()
    expect(after({ a: 1, b: 'unasked' }, { a: 1, b: 'silent' }).leader?.name).toBe('a')
  })

  test('no claim makes none', () => {
    expect(after({ a: 'replica', b: 'silent' })).toMatchObject({
      leader: null,
      vacancy: 'no member of the list claims to be the primary',
    })
  })

  test('two claims make none, and the sentence names both', () => {
    const election = after({ a: 1, b: 'replica' }, { a: 1, b: 2 })
    expect(election).toMatchObject({
      leader: null,
      vacancy: 'a and b both claim to be the primary',
    })
  })

  test('a leader that falls silent keeps its reign until another one claims alone', () => {
    const silent = { a: 'silent', b: 'replica' } as const
    expect(after({ a: 1, b: 'replica' }, silent).leader?.name).toBe('a')
    expect(after({ a: 1, b: 'replica' }, silent, { a: 'silent', b: 2 }).leader).toEqual({
      name: 'b',
      epoch: '2',
    })
  })

  test('a zombie on an older timeline is not counted', () => {
    const rounds = [
      { a: 1, b: 'replica' },
      { a: 'silent', b: 2 },
      { a: 1, b: 2 },
    ] as const
    expect(after(...rounds).leader?.name).toBe('b')
  })
})
