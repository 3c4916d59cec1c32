/** A server connection over a channel that only remembers what was written, for tests without sockets. */
import type { Receiver } from '../../src/net/channel.ts'
import { type ServerChannel, ServerConnection } from '../../src/server/connection.ts'

export interface RecordingServer {
  readonly server: ServerConnection
  /** Everything written so far. */
  readonly written: () => Buffer
}

export function recordingServer(): RecordingServer {
  const pieces: Buffer[] = []
  const channel: ServerChannel = {
    attach: (_receiver: Receiver) => undefined,
    write: (bytes: Buffer) => {
      pieces.push(Buffer.from(bytes))
      return true
    },
    pause: () => undefined,
    resume: () => undefined,
    close: () => undefined,
    destroy: () => undefined,
    isClosed: false,
    unsentBytes: 0,
    bytesReceived: 0,
    bytesSent: 0,
    tls: null,
    isUnix: false,
    remoteAddress: '10.0.0.1',
    remotePort: 5432,
    localAddress: '10.0.0.9',
    localPort: 40_000,
  }
  const identity = {
    member: 'pg1',
    host: '10.0.0.1',
    port: 5432,
    database: 'app',
    user: 'alice',
    role: 'primary' as const,
    term: 1,
  }
  const server = new ServerConnection(
    {
      id: 1,
      identity,
      channel,
      parameters: new Map(),
      processId: 7,
      openedMs: 0,
      cancelSecret: Buffer.alloc(4),
    },
    () => false,
  )
  return { server, written: () => Buffer.concat(pieces) }
}
