/**
 * COPY in both directions, which pgbench cannot do: clients that send or take ten megabytes, again
 * and again. The server makes what goes out and throws away what comes in, so that nothing but
 * the way there is measured. Answers are known by their ReadyForQuery and not looked into.
 */
import { once } from 'node:events'
import { Socket } from 'node:net'
import { Client } from 'pg'
import { type Load, type LoadResult, percentile } from './load.ts'
import { query } from './messages.ts'
import type { CopyScript } from './scripts.ts'

const USER = 'demo'
const ROW_BYTES = 1000
const ROWS = 10_000
const ROWS_PER_MESSAGE = 64
const READY_BYTES = 6
const READY = 0x5a
const COPY_IN = 0x47
const COPY_DATA = 0x64
const COPY_DONE = Buffer.from([0x63, 0, 0, 0, 4])
const OUT = query(
  `COPY (SELECT repeat('x', ${ROW_BYTES}) FROM generate_series(1, ${ROWS})) TO STDOUT`,
)
/** Every row is read, and none kept. */
const IN = query('COPY bench_sink FROM STDIN WHERE false')
const INPUT = input()

/** Errors  Error when a client is refused or lost. */
export async function runCopy(load: Load & { readonly script: CopyScript }): Promise<LoadResult> {
  const startMs = performance.now()
  const all = Array.from({ length: load.shape.clients }, () => logIn(load.port))
  const sockets = await Promise.all(all)
  const beganMs = performance.now()
  const times: number[] = []
  try {
    const endMs = beganMs + load.seconds * 1000
    await Promise.all(sockets.map((socket) => copyUntil(socket, load.script, { endMs, times })))
  } finally {
    for (const socket of sockets) socket.destroy()
  }
  const sorted = Float64Array.from(times).toSorted()
  return {
    transactions: times.length,
    tps: times.length / ((performance.now() - beganMs) / 1000),
    p50Us: percentile(sorted, 0.5),
    p99Us: percentile(sorted, 0.99),
    connectMs: beganMs - startMs,
  }
}

async function copyUntil(
  socket: Socket,
  script: CopyScript,
  run: { readonly endMs: number; readonly times: number[] },
): Promise<void> {
  while (performance.now() < run.endMs) {
    const startedMs = performance.now()
    if (script === 'copy-out') await ask(socket, OUT, isReady)
    else {
      await ask(socket, IN, (chunk) => chunk[0] === COPY_IN)
      await ask(socket, INPUT, isReady)
    }
    run.times.push((performance.now() - startedMs) * 1000)
  }
}

/** The log-in is node-postgres's; afterwards the socket is ours. */
async function logIn(port: number): Promise<Socket> {
  const socket = new Socket()
  const client = new Client({
    host: '127.0.0.1',
    port,
    user: USER,
    password: USER,
    database: USER,
    stream: () => socket,
  })
  client.on('error', () => undefined)
  await client.connect()
  socket.removeAllListeners('data')
  socket.removeAllListeners('end')
  return socket
}

async function ask(
  socket: Socket,
  message: Buffer,
  isAnswer: (chunk: Buffer) => boolean,
): Promise<void> {
  const lost = new AbortController()
  const onClose = (): void => lost.abort(new Error('a client of COPY was cut off'))
  socket.once('close', onClose)
  socket.write(message)
  try {
    for (;;) {
      const [chunk]: Buffer[] = await once(socket, 'data', { signal: lost.signal })
      if (chunk?.[0] === 0x45) throw new Error(`COPY failed: ${chunk.toString('latin1')}`)
      if (chunk !== undefined && isAnswer(chunk)) return
    }
  } finally {
    socket.off('close', onClose)
  }
}

/** Rows are letters, so that these six bytes are nothing else at the end of a chunk. */
function isReady(chunk: Buffer): boolean {
  return chunk[chunk.length - READY_BYTES] === READY && chunk[chunk.length - 2] === 5
}

function input(): Buffer {
  const rows = Buffer.from(`${'x'.repeat(ROW_BYTES - 1)}\n`.repeat(ROWS_PER_MESSAGE))
  const message = Buffer.alloc(5 + rows.length)
  message[0] = COPY_DATA
  message.writeInt32BE(4 + rows.length, 1)
  rows.copy(message, 5)
  const count = Math.ceil((ROWS * ROW_BYTES) / rows.length)
  return Buffer.concat([...Array.from({ length: count }, () => message), COPY_DONE])
}
