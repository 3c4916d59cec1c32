/**
 * Thousands of clients that log in and do nothing: how many are held, and what memory each of them
 * takes of the pooler. A bare Node process that holds as many sockets says what the runtime itself
 * takes; what is above that is ours.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type Bench, Contender, freePort } from './poolers.ts'
import { openFilesMax, residentBytes } from './processes.ts'

export interface IdleResult {
  readonly name: string
  readonly clients: number
  /** Still there after the hold, each tried by its own statement among the sample. */
  readonly held: number
  readonly bytesPerClient: number
  readonly connectMs: number
}

export interface IdlePlan {
  readonly names: readonly string[]
  readonly clients: number
  readonly progress: (text: string) => void
}

const HOLD_MS = 5000
const SETTLE_MS = 2000
const OPENING_MAX = 100
const TRIED = 200
const FILES_SPARE = 500
const POOL_SIZE = 4
const FLOOR = 'bare node'
const READY = 0x5a
const STATEMENT = query('SELECT 1')
const STARTUP = startup('demo', 'demo')

/** Errors  Error that names the remedy when so many files may not be open. */
export async function runIdle(bench: Bench, plan: IdlePlan): Promise<IdleResult[]> {
  const needed = plan.clients + FILES_SPARE
  if (openFilesMax() < needed)
    throw new Error(
      `${plan.clients} idle clients need ${needed} open files and this process may have ${openFilesMax()}: ` +
        `raise the limit (ulimit -n ${needed}), or hold fewer with --idle`,
    )
  const results = [await holdAtFloor(plan)]
  for (const name of plan.names) {
    if (name !== 'pgbouncer' && name !== 'pgsteer' && name !== 'before') continue
    const settings = {
      poolMode: 'transaction' as const,
      poolSize: POOL_SIZE,
      authType: 'trust' as const,
      clientsMax: plan.clients + FILES_SPARE,
      isTls: false,
      workers: 1,
      isSplit: false,
    }
    const contender = await Contender.start(name, bench, settings)
    try {
      const memory = (): number => contender.residentBytes
      results.push(await hold({ name, port: contender.port, memory, hello: STARTUP }, plan))
    } finally {
      await contender.stop()
    }
  }
  return results
}

async function holdAtFloor(plan: IdlePlan): Promise<IdleResult> {
  const port = await freePort()
  const script = join(import.meta.dirname, 'floor.ts')
  const child = spawn(process.execPath, [script, String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    await once(child.stdout, 'data')
    const memory = (): number => residentBytes([child.pid ?? 0])
    return await hold({ name: FLOOR, port, memory, hello: STATEMENT }, plan)
  } finally {
    child.kill()
  }
}

interface Target {
  readonly name: string
  readonly port: number
  readonly memory: () => number
  /** What a client says first; the answer ends with ReadyForQuery. */
  readonly hello: Buffer
}

async function hold(target: Target, plan: IdlePlan): Promise<IdleResult> {
  // What the first clients make once is no client's own.
  for (const socket of await open(target, OPENING_MAX)) socket.destroy()
  await pause(SETTLE_MS)
  const beforeBytes = target.memory()
  const startedMs = performance.now()
  const sockets: Socket[] = []
  try {
    while (sockets.length < plan.clients)
      sockets.push(...(await open(target, Math.min(OPENING_MAX, plan.clients - sockets.length))))
    const connectMs = performance.now() - startedMs
    await pause(HOLD_MS)
    const bytesPerClient = (target.memory() - beforeBytes) / plan.clients
    const step = Math.max(1, Math.floor(plan.clients / TRIED))
    for (let index = 0; index < sockets.length; index += step) await ask(sockets[index], STATEMENT)
    const held = sockets.filter((socket) => socket.readyState === 'open').length
    const result = { name: target.name, clients: plan.clients, held, bytesPerClient, connectMs }
    plan.progress(`idle: ${target.name} holds ${held}, ${Math.round(bytesPerClient)} bytes each`)
    return result
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

function open(target: Target, count: number): Promise<Socket[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const socket = connect({ port: target.port, host: '127.0.0.1', noDelay: true })
      socket.on('error', () => undefined)
      await once(socket, 'connect')
      await ask(socket, target.hello)
      return socket
    }),
  )
}

/** Resolves when the answer's ReadyForQuery came, which is the last message of six bytes. */
async function ask(socket: Socket | undefined, message: Buffer): Promise<void> {
  if (socket === undefined || socket.readyState !== 'open') throw new Error('a client was lost')
  socket.write(message)
  await new Promise<void>((resolve, reject) => {
    let tail: Buffer = Buffer.alloc(0)
    const onEnd = (): void => reject(new Error(`a client was refused: ${tail.toString('latin1')}`))
    const onData = (chunk: Buffer): void => {
      tail = Buffer.concat([tail, chunk])
      if (tail[tail.length - 6] !== READY) return
      socket.off('data', onData)
      socket.off('close', onEnd)
      resolve()
    }
    socket.on('data', onData)
    socket.once('close', onEnd)
  })
}

function startup(user: string, database: string): Buffer {
  const body = Buffer.from(`\0\x03\0\0user\0${user}\0database\0${database}\0\0`, 'latin1')
  const bytes = Buffer.alloc(4 + body.length)
  bytes.writeInt32BE(bytes.length, 0)
  body.copy(bytes, 4)
  return bytes
}

function query(text: string): Buffer {
  const body = Buffer.from(`${text}\0`, 'latin1')
  const bytes = Buffer.alloc(5 + body.length)
  bytes[0] = 0x51
  bytes.writeInt32BE(4 + body.length, 1)
  body.copy(bytes, 5)
  return bytes
}
