/** Two ends of one connection on loopback. */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** `socket` was accepted and has read nothing yet. Both are the caller's to end. */
export async function socketPair(): Promise<{ socket: Socket; peer: Socket }> {
  const server = createServer({ pauseOnConnect: true, noDelay: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const accepted = once(server, 'connection')
  const peer = connect({ port: address.port, host: '127.0.0.1' })
  const [socket]: Socket[] = await accepted
  server.close()
  if (socket === undefined) throw new Error('no socket')
  return { socket, peer }
}
