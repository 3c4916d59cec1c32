/** Where Node has no such binding any more, nothing is written past its streams and files. */
import { Socket } from 'node:net'
import { afterEach, expect, test, vi } from 'vitest'

const binding: unknown = Reflect.get(process, 'binding')

afterEach(() => {
  Reflect.set(process, 'binding', binding)
  vi.resetModules()
})

/** Whether a socket with a handle can be written to directly by a process that has `found`. */
async function isDirect(found: unknown): Promise<boolean> {
  Reflect.set(process, 'binding', found)
  vi.resetModules()
  const { directHandle } = await import('../../../src/net/direct-write.ts')
  const socket = new Socket()
  Reflect.set(socket, '_handle', { writeBuffer() {} })
  return directHandle(socket) !== null
}

test('this Node has it', async () => {
  expect(await isDirect(binding)).toBe(true)
})

test.each([
  ['no bindings at all', undefined],
  [
    'bindings that are refused',
    () => {
      throw new Error('No such binding')
    },
  ],
  ['a binding of another kind', () => ({ WriteWrap: Object })],
])('a Node with %s does without', async (_, found) => {
  expect(await isDirect(found)).toBe(false)
})

test('a socket without a handle of that kind does without', async () => {
  const { directHandle } = await import('../../../src/net/direct-write.ts')
  expect(directHandle(new Socket())).toBeNull()
})
