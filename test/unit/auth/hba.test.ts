import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { certificateName } from '../../../src/auth/certificate.ts'
import {
  type HbaConnection,
  HbaError,
  matchHba,
  mayBe,
  networksOf,
  parseHba,
  parseIdentMap,
} from '../../../src/auth/hba.ts'

const FROM: HbaConnection = {
  isUnix: false,
  isTls: false,
  address: '10.1.2.3',
  user: 'alice',
  database: 'app',
  isReplication: false,
}

/** The method of the first line that fits; null when none does. */
const decide = (text: string, change: Partial<HbaConnection> = {}): string | null =>
  matchHba(parseHba({ name: 'hba', text }), { ...FROM, ...change })?.method ?? null

describe('HBA rules', () => {
  it('are read in order, without comments and empty lines', () => {
    const text =
      '# first\n\nhost all alice 10.0.0.0/8 trust # here\nhost all all 0.0.0.0/0 reject\n'
    expect(decide(text)).toBe('trust')
    expect(decide(text, { user: 'bob' })).toBe('reject')
    expect(decide(text, { isUnix: true })).toBe(null)
  })

  it.each<[string, Partial<HbaConnection>, boolean]>([
    ['local all all trust', { isUnix: true }, true],
    ['local all all trust', {}, false],
    ['host all all all trust', {}, true],
    ['host all all all trust', { isTls: true }, true],
    ['hostssl all all all trust', {}, false],
    ['hostssl all all all trust', { isTls: true }, true],
    ['hostnossl all all all trust', { isTls: true }, false],
    ['host all all 10.1.2.3 trust', {}, true],
    ['host all all 10.1.2.0 255.255.255.0 trust', {}, true],
    ['host all all 10.1.3.0 255.255.255.0 trust', {}, false],
    ['host all all 2001:db8::/32 trust', { address: '2001:db8::1' }, true],
    ['host all all 2001:db8:: ffff:ffff:: trust', { address: '2001:db9::1' }, false],
    ['host all all 10.0.0.0/8 trust', { address: '::ffff:10.9.9.9' }, true],
    ['host all all fe80::/10 trust', { address: 'fe80::1%eth0' }, true],
    ['host all all ::/0 trust', { address: '10.1.2.3' }, false],
    ['host other,app all all trust', {}, true],
    ['host other, app all all trust', {}, true],
    ['host sameuser all all trust', {}, false],
    ['host sameuser all all trust', { database: 'alice' }, true],
    ['host "all" all all trust', {}, false],
    ['host "all" all all trust', { database: 'all' }, true],
    ['host all "al""ice",bob all trust', { user: 'al"ice' }, true],
    ['host replication all all trust', {}, false],
    ['host replication all all trust', { isReplication: true }, true],
    ['host all all all trust', { isReplication: true }, false],
    ['host all all all password', {}, true],
  ])('%s for %o: %s', (text, change, isFit) => {
    expect(decide(text, change) !== null).toBe(isFit)
  })

  it('take words from other files', () => {
    const text = 'host @dbs @users all trust\n'
    const files: Record<string, string> = { dbs: 'x, app\n', users: '# people\nalice bob\n' }
    const include = (path: string): string => files[path] ?? ''
    const rules = parseHba({ name: 'hba', text, include })
    expect(matchHba(rules, FROM)?.method).toBe('trust')
    expect(matchHba(rules, { ...FROM, user: 'carol' })).toBe(null)
  })

  it('name the ident map', () => {
    const rules = parseHba({ name: 'hba', text: 'hostssl all all all cert map=certs' })
    expect(rules[0]).toMatchObject({ method: 'cert', map: 'certs' })
  })

  it.each([
    ['hosts all all all trust', 'unknown connection type "hosts"'],
    ['host all', 'the line is too short'],
    ['host all all', '"" is not an address or network'],
    ['host all all example.org trust', '"example.org" is not an address or network'],
    ['host all all samenet trust', '"samenet" is not an address or network'],
    ['host all all 10.0.0.0/33 trust', '"10.0.0.0/33" is not an address or network'],
    ['host all all 10.0.0.0/8/8 trust', '"10.0.0.0/8/8" is not an address or network'],
    ['host all all 10.0.0.0 255.0.255.0 trust', '"255.0.255.0" is not a netmask'],
    ['host all +group all trust', 'groups (+group) are not supported'],
    ['host samerole all all trust', 'samerole is not supported'],
    ['host all /^a all trust', 'patterns (/^a) are not supported'],
    ['host all all all ldap', 'method "ldap" is not supported'],
    ['host all all all', 'method "" is not supported'],
    ['host all all all cert clientcert=1', 'option "clientcert=1" is not supported'],
    ['host @x all all trust', '@x cannot be read here'],
    ['host "all all all trust', 'quote without end'],
  ])('that read %s are refused with file and line', (text, reason) => {
    expect(() => parseHba({ name: 'hba', text: `\n${text}` })).toThrow(`hba:2: ${reason}`)
  })

  it('of any text are read or refused with an HbaError', () => {
    const words = fc.constantFrom(
      'host',
      'local',
      'all',
      '"',
      ',',
      '10.0.0.0/8',
      'trust',
      '@x',
      '#',
      '\n',
      ' ',
    )
    const text = fc.oneof(
      fc.string(),
      fc.array(words).map((list) => list.join(' ')),
    )
    fc.assert(
      fc.property(text, (any) => {
        try {
          matchHba(parseHba({ name: 'hba', text: any }), FROM)
        } catch (error) {
          expect(error).toBeInstanceOf(HbaError)
        }
      }),
    )
  })
})

describe('the ident map', () => {
  const map = parseIdentMap({ name: 'ident', text: 'm alice bob\nm admin all\n' })

  it.each<[string | null, string, string, boolean]>([
    [null, 'alice', 'alice', true],
    [null, 'alice', 'bob', false],
    ['m', 'alice', 'bob', true],
    ['m', 'alice', 'alice', false],
    ['m', 'admin', 'anybody', true],
    ['other', 'alice', 'alice', false],
  ])('%s lets %s be %s: %s', (name, systemUser, user, isAllowed) => {
    expect(mayBe(map, name, { systemUser, user })).toBe(isAllowed)
  })

  it('has three words in a line', () => {
    expect(() => parseIdentMap({ name: 'ident', text: 'm alice\n' })).toThrow('ident:1: must be')
  })
})

describe("a certificate's name", () => {
  it.each([
    [{ subject: { CN: 'alice' } }, 'alice'],
    [{ subject: { CN: ['alice', 'root'] } }, null],
    [{ subject: { CN: 'root\0.example' } }, null],
    [{ subject: { CN: '' } }, null],
    [{ subject: {} }, null],
    [{}, null],
    [null, null],
  ])('of %o is %s', (certificate, name) => {
    expect(certificateName(certificate)).toBe(name)
  })
})

it('networks hold what is in one of them', () => {
  const isIn = networksOf(['10.0.0.0/8', '::1'])
  expect([
    isIn('10.2.3.4'),
    isIn('11.0.0.1'),
    isIn('::1'),
    isIn('::ffff:10.0.0.1'),
    isIn('unix'),
  ]).toEqual([true, false, true, true, false])
})
