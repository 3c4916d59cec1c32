/** The bounded queue against a plain array. */
import { fc, test } from '@fast-check/vitest'
import { expect } from 'vitest'
import { Queue } from '../../../src/base/queue.ts'

const value = fc.nat(9)
const step = fc.oneof(
  fc.record({ what: fc.constantFrom('push', 'remove'), value }),
  fc.record({ what: fc.constant('shift'), value }),
)

test.prop([fc.nat(6), fc.array(step, { maxLength: 80 })])(
  'is first in, first out, with removals from anywhere, and never longer than its bound',
  (lengthMax, steps) => {
    const queue = new Queue<number>(lengthMax)
    const model: number[] = []
    for (const { what, value: one } of steps) {
      if (what === 'shift') expect(queue.shift()).toBe(model.shift())
      if (what === 'remove') {
        const at = model.indexOf(one)
        expect(queue.remove(one)).toBe(at !== -1)
        if (at !== -1) model.splice(at, 1)
      }
      if (what === 'push' && !(model.includes(one) && model.length < lengthMax)) {
        const fits = model.length < lengthMax
        expect(queue.push(one)).toBe(fits)
        if (fits) model.push(one)
      }
      expect([...queue]).toEqual(model)
      expect([queue.length, queue.first]).toEqual([model.length, model[0]])
      expect(queue.has(one)).toBe(model.includes(one))
    }
  },
)

test('who is queued cannot be queued again', () => {
  const queue = new Queue<string>(3)
  queue.push('a')
  expect(() => queue.push('a')).toThrow('a value is queued once')
})

test('what is removed while it is walked over is not seen, and nothing is skipped', () => {
  const queue = new Queue<string>(9)
  for (const name of ['a', 'b', 'c']) queue.push(name)
  const seen: string[] = []
  for (const name of queue) {
    seen.push(name)
    queue.remove(name)
  }
  expect(seen).toEqual(['a', 'b', 'c'])
  expect(queue.length).toBe(0)
})
