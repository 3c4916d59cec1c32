/** Our own cancel keys: nobody guesses them, no two are alike, instance and worker are in them. */
import { expect, test } from 'vitest'
import { CancelKeys, instanceOf, passedOn, workerOf } from '../../../src/client/cancel.ts'

test('a key finds its holder until it is taken back', () => {
  const keys = new CancelKeys<string>(0, 1)
  const [one, other] = [keys.give('one', 0, 0), keys.give('other', 0, 0)]
  expect(keys.find(one)).toBe('one')
  keys.take(one)
  expect(keys.find(one)).toBeUndefined()
  expect(keys.find(other)).toBe('other')
})

test('a secret that is another, shorter or longer finds nobody', () => {
  const keys = new CancelKeys<string>(0, 1)
  const { processId, secret } = keys.give('one', 0, 0)
  const other = Buffer.from(secret)
  other[3] = (other[3] ?? 0) ^ 4
  for (const wrong of [
    other,
    Buffer.alloc(0),
    secret.subarray(0, 3),
    Buffer.concat([secret, Buffer.alloc(1)]),
  ])
    expect(keys.find({ processId, secret: wrong })).toBeUndefined()
  expect(keys.find({ processId: processId + 1, secret })).toBeUndefined()
})

test.each([
  [0, 4],
  [1, 4],
  [2, 32],
])('under protocol 3.%i the secret has %i bytes', (minor, bytes) => {
  expect(new CancelKeys<string>(0, 1).give('one', minor, 0).secret).toHaveLength(bytes)
})

test.each([
  [0, 1],
  [2, 3],
  [63, 64],
  [64, 65],
])('a key of worker %i of %i names it and its instance, in 31 bits', (worker, workers) => {
  const keys = new CancelKeys<string>(worker, workers)
  for (const instance of [0, 1, 255, 256, 16_383]) {
    const key = keys.give('one', 0, instance)
    expect(workerOf(key, workers)).toBe(worker)
    expect(instanceOf(key)).toBe(instance)
    expect(key.processId).toBeGreaterThan(0)
    expect(key.processId).toBeLessThan(2 ** 31)
  }
})

test("the instance is where PgBouncer's peers look for it: bytes 1 and 2, low byte first", () => {
  const { processId } = new CancelKeys<string>(0, 1).give('one', 0, 0x1234)
  expect((processId >>> 8) & 0xffff).toBe(0x3412)
})

test.each([0, 2])(
  'a key of protocol 3.%i is passed on three times, and found each time',
  (minor) => {
    const keys = new CancelKeys<string>(0, 1)
    let key = keys.give('one', minor, 7)
    for (let hop = 0; hop < 3; hop += 1) {
      const next = passedOn(key)
      if (next === null) throw new Error(`no hop after ${hop}`)
      expect(keys.find(next)).toBe('one')
      key = next
    }
    expect(passedOn(key)).toBeNull()
  },
)
