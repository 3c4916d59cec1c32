/** What is kept is a copy, and a room that was given back is used again. */
import { expect, it } from 'vitest'
import { giveBack, kept } from '../../../src/client/rooms.ts'

it('keeps a copy of the front, short or long', () => {
  for (const length of [0, 1, 60, 1023, 1024, 1025, 5000]) {
    const bytes = Buffer.alloc(length + 10, 7)
    const room = kept(bytes, length)
    bytes.fill(1)
    expect(room.subarray(0, length)).toEqual(Buffer.alloc(length, 7))
  }
})

it('two that are kept at a time do not share a room, and one given back is used again', () => {
  const one = kept(Buffer.from('one'), 3)
  const two = kept(Buffer.from('two'), 3)
  expect(one.toString('latin1', 0, 3)).toBe('one')
  expect(two.toString('latin1', 0, 3)).toBe('two')
  giveBack(one)
  expect(kept(Buffer.from('new'), 3)).toBe(one)
  expect(two.toString('latin1', 0, 3)).toBe('two')
})
