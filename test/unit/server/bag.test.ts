/** Things that know their place: who leaves from the middle leaves nobody else misplaced. */
import { expect, it } from 'vitest'
import { Bag } from '../../../src/server/bag.ts'

function things(count: number): { name: number; bagIndex: number }[] {
  return Array.from({ length: count }, (_, name) => ({ name, bagIndex: -1 }))
}

it('every one can leave, in any order, and is then not there', () => {
  for (const order of [
    [0, 1, 2, 3],
    [3, 2, 1, 0],
    [1, 3, 0, 2],
    [2, 0, 3, 1],
  ]) {
    const bag = new Bag<{ name: number; bagIndex: number }>()
    const all = things(4)
    for (const thing of all) bag.add(thing)
    const left = new Set(order)
    for (const name of order) {
      const thing = all[name] ?? { name: -1, bagIndex: -1 }
      expect(bag.delete(thing)).toBe(true)
      expect(bag.delete(thing)).toBe(false)
      left.delete(name)
      expect(new Set([...bag].map((each) => each.name))).toEqual(left)
      expect(bag.size).toBe(left.size)
    }
  }
})

it('who was never there does not leave', () => {
  const bag = new Bag<{ name: number; bagIndex: number }>()
  const [one, other] = things(2)
  if (one !== undefined) bag.add(one)
  expect(other !== undefined && bag.delete({ ...other, bagIndex: 0 })).toBe(false)
  expect(bag.size).toBe(1)
})
