import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ProxyError } from '../../../src/base/errors.ts'
import {
  cancelPacket,
  packetBytes,
  parseFirstPacket,
  startupPacket,
} from '../../../src/wire/startup.ts'
import { frontend, raw } from '../../support/bytes.ts'

const NONE: ReadonlySet<string> = new Set()

/** A packet without its length word, read. */
const parse = (packet: Buffer, ignored = NONE) => parseFirstPacket(packet.subarray(4), ignored)

const name = fc.stringMatching(/^[a-z_][a-z0-9_]{0,20}(?:\.[a-z_][a-z0-9_]{0,10})?$/)
const value = fc.string({ unit: 'binary', maxLength: 40 }).map((text) => text.replaceAll('\0', ''))

describe('the startup packet', () => {
  it('that we write is what a manual-made one is, and is read back', () => {
    fc.assert(
      fc.property(fc.dictionary(name, value), (settings) => {
        const own = new Set(['user', 'database', 'replication', 'options'])
        const parameters = Object.entries(settings).filter(([key]) => !own.has(key))
        const all = { user: 'alice', ...Object.fromEntries(parameters) }
        const packet = startupPacket(Object.entries(all))
        expect(packet).toEqual(frontend.startup(all))
        expect(packetBytes(packet, 10_000)).toBe(packet.length - 4)
        const read = parse(packet)
        if (read.kind !== 'startup') throw new Error(read.kind)
        expect(read.parameters).toEqual(new Map(parameters))
      }),
    )
  })

  it('of any bytes is read or refused with a ProxyError', () => {
    const pieces = fc.oneof(
      fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)),
      fc
        .constantFrom('user', 'database', 'options', '-c a=b', '--', '\\', 'replication', '_pq_.x')
        .map(raw.cstring),
    )
    const codes = fc.constantFrom(
      196_608,
      196_610,
      206_607,
      80_877_102,
      80_877_103,
      80_877_104,
      131_072,
      -1,
    )
    fc.assert(
      fc.property(codes, fc.array(pieces), (code, parts) => {
        try {
          parseFirstPacket(raw.join([raw.int32(code), ...parts]), NONE)
        } catch (error) {
          expect(error).toBeInstanceOf(ProxyError)
        }
      }),
      { numRuns: 1000 },
    )
  })

  it.each([
    ['-c a=1 -c b=2', { a: '1', b: '2' }],
    ['  -ca=1\t--b-c=2\n', { a: '1', b_c: '2' }],
    ['-c search_path=a\\,\\ b', { search_path: 'a, b' }],
    ['-c a=b=c', { a: 'b=c' }],
    ['--A.B=x', { 'a.b': 'x' }],
    ['-c a=', { a: '' }],
    ['', {}],
  ])('takes %j of options apart', (options, settings) => {
    const read = parse(frontend.startup({ user: 'alice', options }))
    expect(read.kind === 'startup' && Object.fromEntries(read.parameters)).toEqual(settings)
  })

  it.each(['-c', '-c a', '-c =1', '--a', 'a=1', '-x a=1', '-'])(
    'refuses %j in options',
    (options) => {
      expect(() => parse(frontend.startup({ user: 'alice', options }))).toThrow(
        "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
      )
    },
  )

  it('of another kind is told apart by its code and its length', () => {
    expect(parse(frontend.sslRequest())).toEqual({ kind: 'ssl' })
    expect(parse(frontend.gssEncRequest())).toEqual({ kind: 'gss' })
    const long = raw.join([raw.int32(9), raw.int32(80_877_103), 0])
    expect(() => parse(long)).toThrow('unsupported frontend protocol 1234.5679')
  })
})

it('a cancel request is read back with any key', () => {
  const bytes = fc.uint8Array({ minLength: 4, maxLength: 256 })
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), bytes, (processId, key) => {
      const secret = Buffer.from(key)
      expect(parse(cancelPacket(processId, secret))).toEqual({ kind: 'cancel', processId, secret })
    }),
  )
})
