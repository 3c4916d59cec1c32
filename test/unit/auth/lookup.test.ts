import { describe, expect, it } from 'vitest'
import { Lookup } from '../../../src/auth/lookup.ts'
import type { Clock } from '../../../src/base/clock.ts'

class Fixture implements Clock {
  #nowMs = 0
  readonly asked: string[] = []
  answer: (user: string) => Promise<string | null> = () => Promise.resolve('secret')
  readonly lookup: Lookup

  constructor(userlist: Record<string, string> = {}, entriesMax = 3) {
    const query = (user: string, database: string): Promise<string | null> => {
      this.asked.push(`${user}@${database}`)
      return this.answer(user)
    }
    const bounds = { entriesMax, foundMs: 1000, missingMs: 100 }
    this.lookup = new Lookup({ userlist: new Map(Object.entries(userlist)), query }, this, bounds)
  }
  pass(ms: number): void {
    this.#nowMs += ms
  }
  nowMs(): number {
    return this.#nowMs
  }
  wallMs(): number {
    return 0
  }
  after(): never {
    throw new Error('a look-up sets no timer')
  }
  every(): never {
    throw new Error('a look-up sets no timer')
  }
}

describe('a look-up', () => {
  it('finds users of the file without asking', async () => {
    const { lookup, asked } = new Fixture({ alice: 'x' })
    expect(await lookup.find('alice', 'app')).toEqual({ kind: 'plain', password: 'x' })
    expect(asked).toEqual([])
  })

  it('reads a user of the file once, and anew after RELOAD', async () => {
    const { lookup } = new Fixture({ alice: 'x' })
    const first = await lookup.find('alice', 'app')
    expect(await lookup.find('alice', 'other')).toBe(first)
    lookup.replace({ userlist: new Map([['alice', 'y']]), query: null })
    expect(await lookup.find('alice', 'app')).toEqual({ kind: 'plain', password: 'y' })
    lookup.replace({ userlist: new Map(), query: null })
    expect(await lookup.find('alice', 'app')).toBe(null)
  })

  it('remembers for a while who is there, and for less who is not', async () => {
    const fixture = new Fixture()
    const { lookup, asked } = fixture
    await lookup.find('alice', 'app')
    fixture.answer = () => Promise.resolve(null)
    expect(await lookup.find('bob', 'app')).toBe(null)
    fixture.pass(99)
    await lookup.find('alice', 'app')
    await lookup.find('bob', 'app')
    expect(asked).toEqual(['alice@app', 'bob@app'])
    fixture.pass(2)
    await lookup.find('bob', 'app')
    await lookup.find('alice', 'app')
    expect(asked).toEqual(['alice@app', 'bob@app', 'bob@app'])
    fixture.pass(1000)
    await lookup.find('alice', 'app')
    expect(asked).toHaveLength(4)
  })

  it('is made once for all who wait for it', async () => {
    const { lookup, asked } = new Fixture()
    await Promise.all([1, 2, 3].map(() => lookup.find('alice', 'app')))
    expect(asked).toEqual(['alice@app'])
  })

  it('differs between databases, whose queries may differ', async () => {
    const { lookup, asked } = new Fixture()
    await lookup.find('alice', 'app')
    await lookup.find('alice', 'other')
    expect(asked).toEqual(['alice@app', 'alice@other'])
  })

  it('that failed is not remembered', async () => {
    const fixture = new Fixture()
    fixture.answer = () => Promise.reject(new Error('no member'))
    await expect(fixture.lookup.find('alice', 'app')).rejects.toThrow('no member')
    fixture.answer = () => Promise.resolve('x')
    expect(await fixture.lookup.find('alice', 'app')).toMatchObject({ password: 'x' })
  })

  it('is made again after the secret was wrong, for this user only', async () => {
    const { lookup, asked } = new Fixture()
    await lookup.find('al', 'app')
    await lookup.find('alice', 'app')
    lookup.forget('al')
    await lookup.find('al', 'app')
    await lookup.find('alice', 'app')
    expect(asked).toEqual(['al@app', 'alice@app', 'al@app'])
  })

  it('forgets the oldest beyond its bound', async () => {
    const { lookup, asked } = new Fixture()
    for (const user of ['a', 'b', 'c', 'd']) await lookup.find(user, 'app')
    expect(lookup.entries).toBe(3)
    await lookup.find('a', 'app')
    expect(asked.at(-1)).toBe('a@app')
    expect(asked).toHaveLength(5)
  })

  it('forgets everything when its sources are replaced', async () => {
    const { lookup } = new Fixture()
    await lookup.find('alice', 'app')
    lookup.replace({ userlist: new Map([['bob', 'y']]), query: null })
    expect(await lookup.find('alice', 'app')).toBe(null)
    expect(await lookup.find('bob', 'app')).toMatchObject({ password: 'y' })
  })
})

describe('the usual kind of secret', () => {
  const scram = `SCRAM-SHA-256$4096:c2FsdA==$${Buffer.alloc(32).toString('base64')}:${Buffer.alloc(32).toString('base64')}`

  it.each<[Record<string, string>, 'md5' | 'scram']>([
    [{}, 'scram'],
    [{ a: scram, b: 'plain' }, 'scram'],
    [{ a: 'plain' }, 'md5'],
    [{ a: `md5${'0'.repeat(32)}`, b: 'x', c: scram }, 'md5'],
  ])('of %o is %s', (userlist, kind) => {
    expect(new Fixture(userlist).lookup.usualKind).toBe(kind)
  })

  it('becomes SCRAM when auth_query finds one', async () => {
    const fixture = new Fixture({ a: 'plain' })
    fixture.answer = () => Promise.resolve(scram)
    await fixture.lookup.find('bob', 'app')
    expect(fixture.lookup.usualKind).toBe('scram')
  })
})
