/** A channel works the same where Node's bindings cannot be had: what is private is a shorter way only. */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { afterEach, expect, test, vi } from 'vitest'

const binding: unknown = Reflect.get(process, 'binding')
const LONG_BYTES = 300_000

afterEach(() => {
  Reflect.set(process, 'binding', binding)
  vi.resetModules()
})

/** What a channel got from its peer and what the peer got from it, until the peer ended. */
async function exchange(): Promise<{ received: Buffer; echoed: Buffer; error: Error | null }> {
  vi.resetModules()
  const { Channel } = await import('../../../src/net/channel.ts')
  const got: Buffer[] = []
  const ended = Promise.withResolvers<Error | null>()
  const server = createServer((socket: Socket) => {
    const channel = new Channel(socket)
    channel.attach({
      onBytes(chunk) {
        got.push(Buffer.from(chunk))
        channel.write(chunk)
      },
      onDrain() {},
      onClosed: ended.resolve,
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const peer = connect(typeof address === 'object' ? (address?.port ?? 0) : 0, '127.0.0.1')
  const back: Buffer[] = []
  let backBytes = 0
  peer.on('data', (chunk: Buffer) => {
    back.push(chunk)
    backBytes += chunk.length
    if (backBytes === LONG_BYTES + 5) peer.end()
  })
  peer.write('short')
  peer.write(Buffer.alloc(LONG_BYTES, 'long'))
  const error = await ended.promise
  server.close()
  return { received: Buffer.concat(got), echoed: Buffer.concat(back), error }
}

test.each([
  ['with its bindings', binding],
  ['without', undefined],
  ['with others', () => ({ WriteWrap: Object })],
])('Node %s: what comes is read and written in order, and the end is an end', async (_, found) => {
  Reflect.set(process, 'binding', found)
  const { received, echoed, error } = await exchange()
  const sent = Buffer.concat([Buffer.from('short'), Buffer.alloc(LONG_BYTES, 'long')])
  expect(received.equals(sent)).toBe(true)
  expect(echoed.equals(sent)).toBe(true)
  expect(error).toBeNull()
})
