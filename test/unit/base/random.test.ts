import { describe, expect, it } from 'vitest'
import { freshBytes } from '../../../src/base/random.ts'

describe('fresh bytes', () => {
  it('are as many as were asked for, across pages too', () => {
    for (const bytes of [0, 1, 18, 4095, 4096, 18]) expect(freshBytes(bytes)).toHaveLength(bytes)
  })

  it('never come twice', () => {
    const seen = new Set<string>()
    for (let number = 0; number < 2000; number += 1) seen.add(freshBytes(16).toString('hex'))
    expect(seen.size).toBe(2000)
  })

  it('are the caller’s alone', () => {
    const first = freshBytes(16)
    const copy = Buffer.from(first)
    for (let number = 0; number < 600; number += 1) freshBytes(16).fill(0)
    expect(first).toEqual(copy)
    expect(first.every((byte) => byte === 0)).toBe(false)
  })
})
