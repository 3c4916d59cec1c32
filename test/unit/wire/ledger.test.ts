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

const ours = () => Buffer.from('ours')

function kindsOf(ledger: Ledger): string[] {
  return [...ledger].map(({ kind, forward }) => `${kind}${forward ? '' : ' -'}`)
}

describe('answers that nobody waits for any more', () => {
  test('are those of the units from one position to another, the others keep theirs', () => {
    const ledger = new Ledger()
    for (const kind of ['query', 'bind', 'execute', 'sync', 'query'] as const)
      ledger.push(entry(kind))
    ledger.swallow(1, 2)
    expect(kindsOf(ledger)).toEqual(['query', 'bind -', 'execute -', 'sync -', 'query'])
    expect(ledger.units).toBe(3)
    ledger.swallow(0, 1)
    expect(kindsOf(ledger)[0]).toBe('query -')
    ledger.swallow(2)
    expect(kindsOf(ledger).at(-1)).toBe('query -')
  })

  test('of the unit at the head are counted from what it still owes', () => {
    const ledger = new Ledger()
    for (const kind of ['bind', 'execute', 'sync', 'query'] as const) ledger.push(entry(kind))
    ledger.take()
    ledger.swallow(1)
    expect(kindsOf(ledger)).toEqual(['execute', 'sync', 'query -'])
  })

  test('settle what was booked with them, by success and by error', () => {
    const log: string[] = []
    const ledger = new Ledger()
    for (const kind of ['query', 'parse', 'bind', 'execute', 'sync', 'query'] as const)
      ledger.push(entry(kind, log))
    ledger.swallow(1)
    ledger.take().subject?.settle(true)
    ledger.take().subject?.settle(true)
    ledger.fail()
    ledger.take().subject?.settle(true)
    ledger.abandon()
    expect(log).toEqual([
      'query true',
      'parse true',
      'bind false',
      'execute false',
      'sync true',
      'query false',
    ])
  })

  test('hold no reply of ours', () => {
    const ledger = new Ledger()
    ledger.push(entry('query'))
    ledger.push({ ...entry('local'), reply: ours })
    ledger.push(entry('sync'))
    ledger.swallow(1)
    expect([...ledger].map((one) => one.reply)).toEqual([null, null, null])
  })

  test('leave entries that others hold as they are', () => {
    const ledger = new Ledger()
    const shared = entry('query')
    ledger.push(shared)
    ledger.swallow(0)
    expect(shared.forward).toBe(true)
  })
})

/** One whole unit, as a pooler books it for one client. */
const unit = fc.oneof(
  fc.constant<EntryKind[]>(['query']),
  fc
    .subarray<EntryKind>(['parse', 'local', 'bind', 'describe', 'execute', 'close'], {
      minLength: 0,
    })
    .map((kinds): EntryKind[] => kinds.concat('sync')),
)

const event = fc.oneof(
  { arbitrary: unit, weight: 3 },
  { arbitrary: fc.constantFrom('take' as const, 'fail' as const), weight: 6 },
  { arbitrary: fc.tuple(fc.nat(4), fc.nat(4)), weight: 1 },
)

/** A ledger that was told which units are gone, and one that was not; both live the same life. */
class Twins {
  readonly told = new Ledger()
  readonly other = new Ledger()
  readonly toldLog: string[] = []
  readonly otherLog: string[] = []
  /** Units as they were sent, and those of them that are gone. */
  readonly gone = new Set<number>()
  #sent = 0

  push(kinds: readonly EntryKind[]): void {
    for (const [index, kind] of kinds.entries()) {
      const name = `${this.#sent}.${index}`
      this.told.push({ ...entry(kind, this.toldLog, name), stake: this.#sent })
      this.other.push({ ...entry(kind, this.otherLog, name), stake: this.#sent })
    }
    this.#sent += 1
  }

  swallow(first: number, count: number): void {
    this.told.swallow(first, first + count)
    const units = new Set([...this.other].map(({ stake = 0 }) => stake))
    for (const number of [...units].slice(first, first + count)) this.gone.add(number)
  }

  answer(isError: boolean): void {
    for (const ledger of [this.told, this.other]) {
      if (ledger.length === 0) continue
      if (isError) ledger.fail()
      else ledger.take().subject?.settle(true)
    }
  }
}

test.prop([fc.array(event, { maxLength: 80 })], { numRuns: 500 })(
  'a ledger lives the same life whoever has gone; of those who have not, every answer goes out',
  (events) => {
    const twins = new Twins()
    for (const one of events) {
      if (one === 'take' || one === 'fail') twins.answer(one === 'fail')
      else if (typeof one[0] === 'number') twins.swallow(one[0], Number(one[1]))
      else twins.push(one as EntryKind[])
      const owed = [...twins.other]
      expect([...twins.told].map(({ kind }) => kind)).toEqual(owed.map(({ kind }) => kind))
      expect([...twins.told].map(({ forward }) => forward)).toEqual(
        owed.map(({ stake = 0 }) => !twins.gone.has(stake)),
      )
      expect(twins.toldLog).toEqual(twins.otherLog)
    }
    expect(twins.told.units).toBe(twins.other.units)
  },
)
