/**
 * Ports of the loopback interface that nobody listens on.
 */
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** Below the range that outgoing connections take their ports from. */
const PORT_MIN = 15_000
const PORT_MAX = 32_000

export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORT_MIN, PORT_MAX)
    const server = createServer().listen({ port, host: '127.0.0.1', exclusive: true })
    const isFree = await Promise.race([
      once(server, 'listening').then(() => true),
      once(server, 'error').then(() => false),
    ])
    if (isFree) {
      await once(server.close(), 'close')
      return port
    }
  }
}
