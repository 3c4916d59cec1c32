import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hmac, KeyDeriver, keysOf, mockVerifier } from '../../../src/auth/derive.ts'
import {
  SCRAM,
  SCRAM_CLIENT_MOVES,
  SCRAM_PLUS,
  SCRAM_SERVER_MOVES,
  ScramClient,
  type ScramMechanism,
  ScramServer,
  type ScramServerOptions,
} from '../../../src/auth/scram.ts'
import { parseSecret, type ScramVerifier } from '../../../src/auth/secret.ts'
import { ProxyError } from '../../../src/base/errors.ts'
import { ScramClient as OtherClient } from '../../support/scram.ts'

const deriver = new KeyDeriver()
const SALT = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64')

async function verifierOf(password: string, iterations = 4096): Promise<ScramVerifier> {
  const { storedKey, serverKey } = await deriver.keys(password, SALT, iterations)
  return { iterations, salt: SALT, storedKey, serverKey }
}

async function serverFor(password: string, options: Partial<ScramServerOptions> = {}) {
  const verifier = await verifierOf(password)
  return new ScramServer({ verifier, isMock: false, mechanism: SCRAM, binding: null, ...options })
}

const clientFor = (password: string): ScramClient =>
  new ScramClient({ credential: { kind: 'plain', password }, deriver })

const errorOf = (run: () => unknown): ProxyError => {
  try {
    run()
  } catch (error) {
    if (error instanceof ProxyError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('the exchange of RFC 7677', () => {
  const clientFirst = 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO'
  const serverFirst =
    'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096'
  const clientFinal =
    'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ='
  const serverFinal = 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4='

  it('is what the client says', async () => {
    const client = new ScramClient({
      credential: { kind: 'plain', password: 'pencil' },
      deriver,
      nonce: 'rOprNGfwEbeRWgbNEkqO',
      user: 'user',
    })
    expect(client.first()).toBe(clientFirst)
    expect(await client.prove(serverFirst)).toBe(clientFinal)
    client.verify(serverFinal)
    expect(client.state).toBe('verified')
  })

  it('is what the server says', async () => {
    const server = await serverFor('pencil', { nonce: '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0' })
    expect(server.challenge(clientFirst)).toBe(serverFirst)
    expect(server.verify(clientFinal).serverFinal).toBe(serverFinal)
    expect(server.state).toBe('verified')
  })
})

describe('the server', () => {
  it('learns a ClientKey that logs in elsewhere without the password', async () => {
    const server = await serverFor('secret')
    const client = clientFor('secret')
    const { serverFinal, keys } = server.verify(
      await client.prove(server.challenge(client.first())),
    )
    client.verify(serverFinal)
    const second = await serverFor('secret')
    const passed = new ScramClient({ credential: keys, deriver })
    passed.verify(second.verify(await passed.prove(second.challenge(passed.first()))).serverFinal)
    expect(passed.state).toBe('verified')
  })

  it('agrees with a client that was written apart from it', async () => {
    const server = await serverFor('secret')
    const client = new OtherClient('secret')
    const final = client.final(server.challenge(client.first))
    expect(() => client.verify(server.verify(final).serverFinal)).not.toThrow()
  })

  it('refuses a wrong password', async () => {
    const server = await serverFor('secret')
    const client = clientFor('wrong')
    const final = await client.prove(server.challenge(client.first()))
    expect(errorOf(() => server.verify(final)).code).toBe('sasl_failed')
    expect(server.state).toBe('failed')
  })

  it('refuses the right proof against a mock verifier', async () => {
    const server = await serverFor('secret', { isMock: true })
    const client = clientFor('secret')
    const final = await client.prove(server.challenge(client.first()))
    expect(errorOf(() => server.verify(final)).code).toBe('sasl_failed')
  })

  it('binds to the certificate under -PLUS', async () => {
    const binding = Buffer.from('hash of the certificate')
    const client = clientFor('secret')
    const bare = client.first().slice(3)
    const server = await serverFor('secret', { binding, mechanism: SCRAM_PLUS, nonce: 'x' })
    const serverFirst = server.challenge(`p=tls-server-end-point,,${bare}`)
    const { clientKey, storedKey } = await deriver.keys('secret', SALT, 4096)
    const c = Buffer.concat([Buffer.from('p=tls-server-end-point,,'), binding]).toString('base64')
    const nonce = /r=([^,]+)/.exec(serverFirst)?.[1]
    const withoutProof = `c=${c},r=${nonce}`
    const signature = hmac(storedKey, `${bare},${serverFirst},${withoutProof}`)
    const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)))
    const right = `${withoutProof},p=${proof.toString('base64')}`
    expect(server.verify(right).keys.kind).toBe('scram')
  })

  it.each<[string, string, Buffer | null, ScramMechanism]>([
    ['y although -PLUS was offered', 'y,,n=,r=abc', Buffer.from('b'), SCRAM],
    ['n under -PLUS', 'n,,n=,r=abc', Buffer.from('b'), SCRAM_PLUS],
    ['y under -PLUS', 'y,,n=,r=abc', Buffer.from('b'), SCRAM_PLUS],
    ['another binding', 'p=tls-unique,,n=,r=abc', Buffer.from('b'), SCRAM_PLUS],
    ['a binding without -PLUS', 'p=tls-server-end-point,,n=,r=abc', Buffer.from('b'), SCRAM],
    ['an authorization identity', 'n,a=root,n=,r=abc', null, SCRAM],
    ['a mandatory extension', 'n,,m=x,n=,r=abc', null, SCRAM],
    ['an empty nonce', 'n,,n=,r=', null, SCRAM],
    ['a nonce with spaces', 'n,,n=,r=a b', null, SCRAM],
    ['a nonce without end', `n,,n=,r=${'a'.repeat(600)}`, null, SCRAM],
    ['a message without end', `n,,n=${'a'.repeat(5000)},r=abc`, null, SCRAM],
    ['nothing', '', null, SCRAM],
  ])('refuses %s', async (_, first, binding, mechanism) => {
    const server = await serverFor('secret', { binding, mechanism })
    expect(errorOf(() => server.challenge(first)).code).toBe('sasl_failed')
    expect(server.state).toBe('failed')
  })

  it('takes y from a client when nothing could be bound', async () => {
    const server = await serverFor('secret')
    expect(server.challenge('y,,n=,r=abc')).toMatch(/^r=abc/)
  })

  it('refuses the right proof for another nonce', async () => {
    const server = await serverFor('secret', { nonce: 'ours' })
    const bare = 'n=,r=abc'
    const serverFirst = server.challenge(`n,,${bare}`)
    const { clientKey, storedKey } = await deriver.keys('secret', SALT, 4096)
    const withoutProof = 'c=biws,r=abcOURS'
    const signature = hmac(storedKey, `${bare},${serverFirst},${withoutProof}`)
    const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)))
    const final = `${withoutProof},p=${proof.toString('base64')}`
    expect(errorOf(() => server.verify(final)).code).toBe('sasl_failed')
  })

  it('refuses any bytes with sasl_failed and nothing else', async () => {
    const verifier = await verifierOf('secret', 1)
    const make = (): ScramServer =>
      new ScramServer({ verifier, isMock: false, mechanism: SCRAM, binding: null, nonce: 'x' })
    const parts = fc.constantFrom(
      'n,,',
      'n=',
      'r=a',
      ',',
      'c=biws',
      'p=',
      'r=ax',
      'AAAA',
      '=',
      'm=',
    )
    const text = fc.oneof(
      fc.string(),
      fc.array(parts).map((list) => list.join('')),
    )
    fc.assert(
      fc.property(text, text, (first, final) => {
        const server = make()
        try {
          server.challenge(first)
          server.verify(final)
        } catch (error) {
          expect(error).toBeInstanceOf(ProxyError)
          return
        }
        throw new Error('a random proof was taken')
      }),
      { numRuns: 500 },
    )
  })
})

describe('the client', () => {
  const ours = 'abc'
  const begun = (): ScramClient => {
    const client = new ScramClient({
      credential: { kind: 'plain', password: 'secret' },
      deriver,
      nonce: ours,
    })
    client.first()
    return client
  }
  const salt = SALT.toString('base64')

  it.each([
    ['a nonce that does not extend ours', `r=xyzw,s=${salt},i=4096`],
    ['our own nonce', `r=abc,s=${salt},i=4096`],
    ['no iterations', `r=abcd,s=${salt},i=0`],
    ['negative iterations', `r=abcd,s=${salt},i=-1`],
    ['more iterations than the bound', `r=abcd,s=${salt},i=100001`],
    ['iterations beyond 32 bit', `r=abcd,s=${salt},i=9999999999`],
    ['iterations that are no number', `r=abcd,s=${salt},i=4096x`],
    ['an empty salt', 'r=abcd,s=,i=4096'],
    ['a salt that is not base64', 'r=abcd,s=%%%%,i=4096'],
    ['a salt without end', `r=abcd,s=${'A'.repeat(1400)},i=4096`],
    ['a mandatory extension', `m=x,r=abcd,s=${salt},i=4096`],
    ['nothing', ''],
    ['a message without end', 'r=abcd'.padEnd(5000, 'x')],
  ])('refuses %s', async (_, serverFirst) => {
    const client = begun()
    await expect(client.prove(serverFirst)).rejects.toMatchObject({ code: 'server_auth' })
    expect(client.state).toBe('failed')
  })

  it('refuses a server that does not know the password', async () => {
    const client = begun()
    await client.prove(`r=abcd,s=${salt},i=1`)
    const wrong = `v=${Buffer.alloc(32).toString('base64')}`
    expect(errorOf(() => client.verify(wrong)).message).toBe(
      'server login failed: failed to verify server signature',
    )
  })

  it.each(['e=other-error', 'v=AAAA', 'v=', ''])('refuses the last word %s', async (final) => {
    const client = begun()
    await client.prove(`r=abcd,s=${salt},i=1`)
    expect(errorOf(() => client.verify(final)).message).toBe(
      'server login failed: invalid server signature',
    )
  })

  it('says 28P01 when learnt keys belong to another secret', async () => {
    const { clientKey, serverKey } = await deriver.keys('secret', SALT, 4096)
    const credential = {
      kind: 'scram',
      clientKey,
      serverKey,
      salt: SALT,
      iterations: 4096,
    } as const
    const client = new ScramClient({ credential, deriver, nonce: ours })
    client.first()
    await expect(client.prove('r=abcd,s=AAAA,i=4096')).rejects.toMatchObject({
      code: 'server_keys_stale',
      sqlstate: '28P01',
    })
  })

  it('refuses any bytes with a ProxyError and nothing else', async () => {
    const parts = fc.constantFrom('r=abc', 'r=abcd', ',s=AAAA', ',i=', '1', 'v=', ',', '=', 'm=')
    const text = fc.oneof(
      fc.string(),
      fc.array(parts).map((list) => list.join('')),
    )
    await fc.assert(
      fc.asyncProperty(text, text, async (first, final) => {
        const client = begun()
        try {
          await client.prove(first)
          client.verify(final)
        } catch (error) {
          expect(error).toBeInstanceOf(ProxyError)
          return
        }
        throw new Error('a random signature was taken')
      }),
      { numRuns: 300 },
    )
  })
})

describe('both machines', () => {
  it.each([
    ['server', SCRAM_SERVER_MOVES],
    ['client', SCRAM_CLIENT_MOVES],
  ])('of the %s reach every state and can fail from every open one', (_, moves) => {
    const table: Readonly<Record<string, readonly string[]>> = moves
    const reached = new Set(['initial'])
    for (const state of reached) for (const next of table[state] ?? []) reached.add(next)
    expect([...reached].toSorted()).toEqual(Object.keys(table).toSorted())
    for (const [state, next] of Object.entries(table))
      if (next.length > 0) expect(next, state).toContain('failed')
  })
})

describe('derivation', () => {
  it('shares one derivation among those who ask at once and stays within its bound', async () => {
    const small = new KeyDeriver(2)
    const [one, other] = await Promise.all([small.keys('a', SALT, 10), small.keys('a', SALT, 10)])
    expect(one).toEqual(other)
    for (const password of ['b', 'c', 'd']) await small.keys(password, SALT, 10)
    expect(small.entries).toBe(2)
  })

  it('makes the verifier of a plain password once, for one user, seed and number of rounds', async () => {
    const secret = { kind: 'plain', password: 'x' } as const
    const seed = { seed: Buffer.alloc(16, 1), iterations: 1 }
    const first = await deriver.verifier(secret, 'alice', seed)
    expect(await deriver.verifier(secret, 'alice', seed)).toBe(first)
    const others = [
      await deriver.verifier(secret, 'bob', seed),
      await deriver.verifier(secret, 'alice', { ...seed, iterations: 2 }),
      await deriver.verifier(secret, 'alice', { ...seed, seed: Buffer.alloc(16, 2) }),
      await deriver.verifier({ kind: 'plain', password: 'y' }, 'alice', seed),
    ]
    for (const other of others) expect(other.storedKey).not.toEqual(first.storedKey)
  })

  it.each([
    // RFC 4231, 4.2.
    [
      '0b'.repeat(20),
      'Hi There',
      'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
    ],
    // RFC 4231, 4.3.
    [
      '4a656665',
      'what do ya want for nothing?',
      '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
    ],
  ])('hashes with a key as RFC 4231 says (%s)', (key, text, expected) => {
    const bytes = Buffer.from(key, 'hex')
    expect(hmac(bytes, text).toString('hex')).toBe(expected)
    expect(hmac(bytes, text).toString('hex')).toBe(expected)
    expect(hmac(bytes, `${text}!`).toString('hex')).not.toBe(expected)
  })

  it('prepares passwords as PostgreSQL does', async () => {
    const pairs = [
      ['a\u00adb', 'ab'],
      ['\u2168', 'IX'],
      ['\u00a0x', ' x'],
    ] as const
    for (const [written, prepared] of pairs)
      expect(await deriver.keys(written, SALT, 1)).toEqual(await deriver.keys(prepared, SALT, 1))
    const forbidden = await deriver.keys('\u2168\u0007', SALT, 1)
    expect(forbidden).not.toEqual(await deriver.keys('IX\u0007', SALT, 1))
  })

  it('makes up the same salt for an unknown user in every worker, and no key of any password', () => {
    const seed = Buffer.alloc(16, 1)
    const [one, other] = [mockVerifier(seed, 'nobody', 4096), mockVerifier(seed, 'nobody', 4096)]
    expect(one.salt).toEqual(other.salt)
    expect(one.storedKey).toEqual(mockVerifier(seed, 'somebody', 1).storedKey)
    expect(one.storedKey).not.toEqual(Buffer.alloc(32))
    expect(mockVerifier(seed, 'somebody', 4096).salt).not.toEqual(one.salt)
  })

  it('follows RFC 5802 from the salted password on', () => {
    const { clientKey, storedKey, serverKey } = keysOf(Buffer.alloc(32))
    expect(new Set([clientKey, storedKey, serverKey].map(String)).size).toBe(3)
  })
})

describe('stored secrets', () => {
  it('are told apart as PgBouncer does', () => {
    expect(parseSecret('secret')).toEqual({ kind: 'plain', password: 'secret' })
    expect(parseSecret(`md5${'A'.repeat(32)}`)).toEqual({
      kind: 'md5',
      hash: `md5${'a'.repeat(32)}`,
    })
    expect(parseSecret('md5short').kind).toBe('plain')
    const key = Buffer.alloc(32, 7).toString('base64')
    expect(parseSecret(`SCRAM-SHA-256$4096:c2FsdA==$${key}:${key}`)).toMatchObject({
      kind: 'scram',
      verifier: { iterations: 4096, salt: Buffer.from('salt') },
    })
  })

  it.each(['$0:c2FsdA==$K:K', '$4096:$K:K', '$4096:c2FsdA==$AAAA:K', '$99999999999:c2FsdA==$K:K'])(
    'are plain when SCRAM%s is not sound',
    (tail) => {
      const key = Buffer.alloc(32, 7).toString('base64')
      const raw = `SCRAM-SHA-256${tail.replaceAll('K', key)}`
      expect(parseSecret(raw)).toEqual({ kind: 'plain', password: raw })
    },
  )
})
