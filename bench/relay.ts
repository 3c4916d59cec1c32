/**
 * The least that a pooler in Node costs: bytes go between each client and a server of its own as they
 * come, read and written as pgsteer does, and nobody looks at them. Started by poolers.ts with the port
 * to listen on and that of PostgreSQL.
 */
import { connect, createServer, type Socket } from 'node:net'
import { Channel } from '../src/net/channel.ts'

const [, , listenPort, port] = process.argv

function join(from: Channel, to: Channel): void {
  from.attach({
    onBytes: (bytes) => {
      if (!to.write(bytes)) from.pause()
    },
    onDrain: () => to.resume(),
    onClosed: () => to.destroy(),
  })
}

function serve(client: Socket): void {
  const server = connect({ port: Number(port), host: '127.0.0.1', noDelay: true }, () => {
    const [front, back] = [new Channel(client), new Channel(server)]
    join(front, back)
    join(back, front)
  })
  server.on('error', () => client.destroy())
}

createServer({ noDelay: true, pauseOnConnect: true }, serve).listen(Number(listenPort), '127.0.0.1')
