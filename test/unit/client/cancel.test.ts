/** Our own cancel keys: nobody guesses them, no two are alike, and the worker is in them. */
import { expect, test } from 'vitest'
import { CancelKeys, workerOf } from '../../../src/client/cancel.ts'

test('a key finds its holder until it is taken back', () => {
  const keys = new CancelKeys<string>(0)
  const [one, other] = [keys.give('one', 0), keys.give('other', 0)]
  expect(one.processId).not.toBe(other.processId)
  expect(keys.find(one.processId, one.secret)).toBe('one')
  keys.take(one)
  expect(keys.find(one.processId, one.secret)).toBeUndefined()
  expect(keys.find(other.processId, other.secret)).toBe('other')
})

test('a secret that is another, shorter or longer finds nobody', () => {
  const keys = new CancelKeys<string>(0)
  const { processId, secret } = keys.give('one', 0)
  const other = Buffer.from(secret)
  other[3] = (other[3] ?? 0) ^ 1
  for (const wrong of [
    other,
    Buffer.alloc(0),
    secret.subarray(0, 3),
    Buffer.concat([secret, Buffer.alloc(1)]),
  ])
    expect(keys.find(processId, wrong)).toBeUndefined()
  expect(keys.find(processId + 1, secret)).toBeUndefined()
})

test.each([
  [0, 4],
  [1, 4],
  [2, 32],
])('under protocol 3.%i the secret has %i bytes', (minor, bytes) => {
  expect(new CancelKeys<string>(0).give('one', minor).secret).toHaveLength(bytes)
})

test.each([0, 1, 127])('a key of worker %i names it, in 31 bits', (worker) => {
  const { processId } = new CancelKeys<string>(worker).give('one', 0)
  expect(workerOf(processId)).toBe(worker)
  expect(processId).toBeGreaterThan(0)
  expect(processId).toBeLessThan(2 ** 31)
})
