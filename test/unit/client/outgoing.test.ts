/** What goes to a server in one write is the runs of the input and our bytes, in order. */
import { fc, test } from '@fast-check/vitest'
import { describe, expect } from 'vitest'
import { Outgoing } from '../../../src/client/outgoing.ts'
import { isScratch } from '../../../src/net/scratch.ts'

const INPUT = Buffer.from(Array.from({ length: 100_000 }, (_, index) => index % 251))

/** A copy of what `fill` puts together. */
function put(fill: (outgoing: Outgoing) => void, outgoing = new Outgoing()): Buffer | null {
  outgoing.begin(INPUT)
  fill(outgoing)
  const all = outgoing.all()
  outgoing.end()
  return all === null ? null : Buffer.from(all)
}

const step = fc.oneof(
  fc.record({ kind: fc.constant('run'), bytes: fc.integer({ min: 1, max: 3000 }) }),
  fc.record({ kind: fc.constant('drop'), bytes: fc.integer({ min: 1, max: 3000 }) }),
  fc.record({ kind: fc.constant('piece'), bytes: fc.integer({ min: 0, max: 3000 }) }),
  fc.record({ kind: fc.constant('int32'), bytes: fc.nat({ max: 0x7fffffff }) }),
)

describe('a write', () => {
  test.prop([fc.array(step, { maxLength: 30 })])('is every part of it, in order', (steps) => {
    const wanted: Buffer[] = []
    let offset = 0
    const got = put((outgoing) => {
      for (const { kind, bytes } of steps) {
        if (kind === 'run') {
          outgoing.run(offset, offset + bytes)
          wanted.push(INPUT.subarray(offset, offset + bytes))
        }
        if (kind === 'piece') {
          const piece = Buffer.alloc(bytes, 0xff)
          outgoing.bytes(piece)
          wanted.push(piece)
        }
        if (kind === 'int32') {
          outgoing.byte(0x42)
          outgoing.int32(bytes)
          const word = Buffer.alloc(5, 0x42)
          word.writeInt32BE(bytes, 1)
          wanted.push(word)
        }
        if (kind === 'run' || kind === 'drop') offset += bytes
      }
    })
    expect(got ?? Buffer.alloc(0)).toEqual(Buffer.concat(wanted))
  })

  test('of nothing is none', () => {
    expect(put(() => {})).toBeNull()
  })

  test('of the input alone is not copied', () => {
    const outgoing = new Outgoing()
    outgoing.begin(INPUT)
    outgoing.run(0, 10)
    outgoing.run(10, INPUT.length)
    expect(outgoing.all()).toBe(INPUT)
    outgoing.end()
  })

  test('of several parts is in the scratch buffer, and in one of its own when it is long', () => {
    const outgoing = new Outgoing()
    for (const [bytes, isShort] of [
      [100, true],
      [90_000, false],
    ] as const) {
      outgoing.begin(INPUT)
      outgoing.byte(1)
      outgoing.run(0, bytes)
      const all = outgoing.all()
      expect([all?.length, all !== null && isScratch(all)]).toEqual([bytes + 1, isShort])
      outgoing.end()
    }
  })

  test('is not begun while another is put together', () => {
    const outgoing = new Outgoing()
    outgoing.begin(INPUT)
    expect(() => outgoing.begin(INPUT)).toThrow('one write is put together at a time')
  })
})
