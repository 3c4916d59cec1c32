/**
 * The least that Node can do with a client: accept, keep, answer ReadyForQuery. Its memory per
 * socket is what idle clients of pgsteer are measured against. Started by idle.ts with a port, and
 * with a certificate and its key for TLS.
 */
import { readFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'

const READY = Buffer.from([0x5a, 0, 0, 0, 5, 0x49])
const [, , port, cert, key] = process.argv

function onSocket(socket: Socket): void {
  socket.on('data', () => socket.write(READY))
  socket.on('error', () => socket.destroy())
}

const server =
  cert === undefined || key === undefined
    ? createServer({ noDelay: true }, onSocket)
    : createTlsServer({ noDelay: true, cert: readFileSync(cert), key: readFileSync(key) }, onSocket)
server.listen(Number(port), '127.0.0.1', () => process.stdout.write('ready\n'))
