/** What a server owes, by PostgreSQL's own rule for errors: everything up to the next Sync is skipped. */
import { fc, test } from '@fast-check/vitest'
import { describe, expect } from 'vitest'
import { completes, type Entry, type EntryKind, Ledger } from '../../../src/wire/ledger.ts'

function entry(kind: EntryKind, log: string[] = [], name: string = kind): Entry {
  const settle = (succeeded: boolean) => void log.push(`${name} ${succeeded}`)
  return { kind, forward: true, subject: { settle }, reply: null }
}

test('replies are taken in the order in which their messages were sent', () => {
  const ledger = new Ledger()
  for (const kind of ['parse', 'bind', 'execute', 'sync'] as const) ledger.push(entry(kind))
  expect([...ledger].map(({ kind }) => kind)).toEqual(['parse', 'bind', 'execute', 'sync'])
  expect([ledger.take().kind, ledger.take().kind]).toEqual(['parse', 'bind'])
  expect([ledger.length, ledger.head?.kind]).toEqual([2, 'execute'])
})

test('a reply that nobody waits for is an invariant broken', () => {
  expect(() => new Ledger().take()).toThrow('a reply is owed')
  expect(() => new Ledger().fail()).toThrow('an error answers something')
})

describe('an error', () => {
  test('of a Query leaves its ReadyForQuery owed', () => {
    const ledger = new Ledger()
    ledger.push(entry('query'))
    expect(ledger.fail()).toBe(true)
    expect(ledger.head?.kind).toBe('query')
    expect(ledger.isSkipping).toBe(false)
  })

  test("of a statement of ours is not the client's", () => {
    const ledger = new Ledger()
    ledger.push({ ...entry('query'), forward: false })
    expect(ledger.fail()).toBe(false)
  })

  test('in a batch makes everything before its Sync fail, and nothing behind it', () => {
    const log: string[] = []
    const ledger = new Ledger()
    for (const kind of ['parse', 'bind', 'execute', 'sync', 'bind'] as const)
      ledger.push(entry(kind, log))
    ledger.take().subject?.settle(true)
    ledger.fail()
    expect(log).toEqual(['parse true', 'bind false', 'execute false'])
    expect([...ledger].map(({ kind }) => kind)).toEqual(['sync', 'bind'])
  })

  test('before a Sync was sent makes what follows fail at once, up to that Sync', () => {
    const log: string[] = []
    const ledger = new Ledger()
    ledger.push(entry('bind', log))
    ledger.fail()
    expect(ledger.isSkipping).toBe(true)
    ledger.push(entry('execute', log))
    expect(ledger.length).toBe(0)
    ledger.push(entry('sync', log))
    ledger.push(entry('parse', log))
    expect(log).toEqual(['bind false', 'execute false'])
    expect([...ledger].map(({ kind }) => kind)).toEqual(['sync', 'parse'])
  })
})

test('what was booked and not sent is taken back, the last one first, and what stands before stays', () => {
  const log: string[] = []
  const ledger = new Ledger()
  for (const name of ['sent', 'one', 'two']) ledger.push(entry('query', log, name))
  ledger.takeBack(1)
  expect(log).toEqual(['two false', 'one false'])
  expect([ledger.length, ledger.head?.kind]).toEqual([1, 'query'])
  ledger.push(entry('sync', log))
  expect([ledger.take().kind, ledger.take().kind, ledger.length]).toEqual(['query', 'sync', 0])
})

test('a ledger that is never empty uses its room again', () => {
  const ledger = new Ledger()
  const kinds: readonly EntryKind[] = ['parse', 'bind', 'execute', 'sync']
  const taken: EntryKind[] = []
  for (let turn = 0; turn < 20_000; turn += 1) {
    for (const kind of kinds) ledger.push(entry(kind))
    if (turn > 0) for (let reply = 0; reply < 4; reply += 1) taken.push(ledger.take().kind)
  }
  expect(ledger.length).toBe(4)
  expect(ledger.room).toBeLessThan(3000)
  expect(taken.every((kind, at) => kind === kinds[at % 4])).toBe(true)
})

test('a server in COPY FROM STDIN ignores the Syncs that were sent ahead, and only those', () => {
  const ledger = new Ledger()
  for (const kind of ['execute', 'sync', 'sync', 'query', 'sync'] as const) ledger.push(entry(kind))
  ledger.dropSyncs()
  expect([...ledger].map(({ kind }) => kind)).toEqual(['execute', 'query', 'sync'])
})

test('a message type is the whole reply to the kinds that PostgreSQL answers with it', () => {
  const kinds: EntryKind[] = [
    'query',
    'function',
    'parse',
    'bind',
    'describe',
    'execute',
    'close',
    'sync',
  ]
  const answered = (type: string) =>
    kinds.filter((kind) => completes(kind, type.charCodeAt(0))).join(' ')
  expect(Object.fromEntries('Z123nTCIsDE'.split('').map((type) => [type, answered(type)]))).toEqual(
    {
      Z: 'query function sync',
      1: 'parse',
      2: 'bind',
      3: 'close',
      n: 'describe',
      T: 'describe',
      C: 'execute',
      I: 'execute',
      s: 'execute',
      D: '',
      E: '',
    },
  )
})

const step = fc.oneof(
  fc.constantFrom<EntryKind>('parse', 'bind', 'execute', 'close', 'sync', 'sync', 'query'),
  fc.constantFrom('take' as const, 'fail' as const),
)

test.prop([fc.array(step, { maxLength: 60 })])(
  'whatever happens, every message is settled once',
  (steps) => {
    const ledger = new Ledger()
    const settled = new Map<number, number>()
    let sent = 0
    for (const what of steps)
      if (what === 'fail') {
        if (ledger.length > 0) ledger.fail()
      } else if (what === 'take') {
        if (ledger.length > 0) ledger.take().subject?.settle(true)
      } else {
        const id = sent
        sent += 1
        const settle = () => void settled.set(id, (settled.get(id) ?? 0) + 1)
        ledger.push({ kind: what, forward: true, subject: { settle }, reply: null })
      }
    ledger.abandon()
    expect([...settled.values()].every((times) => times === 1)).toBe(true)
    expect(settled.size).toBe(sent)
    expect([ledger.length, ledger.isSkipping]).toEqual([0, false])
  },
)
