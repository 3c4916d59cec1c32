/**
 * The least that Node can do with a client: accept, keep, answer ReadyForQuery. Its memory per
 * socket is what idle clients of pgsteer are measured against. Started by idle.ts.
 */
import { createServer } from 'node:net'

const READY = Buffer.from([0x5a, 0, 0, 0, 5, 0x49])

const server = createServer({ noDelay: true }, (socket) => {
  socket.on('data', () => socket.write(READY))
  socket.on('error', () => socket.destroy())
})
server.listen(Number(process.argv[2]), '127.0.0.1', () => process.stdout.write('ready\n'))
