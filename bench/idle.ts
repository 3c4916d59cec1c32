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
import { connect as connectTls } from 'node:tls'
import { Authority } from '../test/support/certificates.ts'
import { query, SSL_REQUEST, startup } from './messages.ts'
import { Contender } from './poolers.ts'
import { freePort } from './ports.ts'
import { openFilesMax, residentBytes } from './processes.ts'
import type { Bench } from './settings.ts'

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
  readonly isTls: boolean
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
  const results = [await holdAtFloor(bench, plan)]
  for (const name of plan.names) {
    if (name === 'direct') continue
    const settings = {
      poolMode: 'transaction' as const,
      poolSize: POOL_SIZE,
      authType: 'trust' as const,
      clientsMax: plan.clients + FILES_SPARE,
      isTls: plan.isTls,
      workers: 1,
      isSplit: false,
    }
    const contender = await Contender.start(name, bench, settings)
    try {
      const memory = (): number => contender.residentBytes
      const { port } = contender
      results.push(await hold({ name, port, memory, hello: STARTUP, asksTls: true }, plan))
    } finally {
      await contender.stop()
    }
  }
  return results
}

async function holdAtFloor(bench: Bench, plan: IdlePlan): Promise<IdleResult> {
  const port = await freePort()
  const script = join(import.meta.dirname, 'floor.ts')
  const child = spawn(process.execPath, [script, String(port), ...tlsFiles(bench, plan)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    await once(child.stdout, 'data')
    const memory = (): number => residentBytes([child.pid ?? 0])
    return await hold({ name: FLOOR, port, memory, hello: STATEMENT, asksTls: false }, plan)
  } finally {
    child.kill()
  }
}

function tlsFiles(bench: Bench, plan: IdlePlan): string[] {
  if (!plan.isTls) return []
  const authority = new Authority(join(bench.cluster.directory, 'floor-tls'))
  const { certFile, keyFile } = authority.issue({ commonName: 'localhost' })
  return [certFile, keyFile]
}

interface Target {
  readonly name: string
  readonly port: number
  readonly memory: () => number
  /** What a client says first; the answer ends with ReadyForQuery. */
  readonly hello: Buffer
  /** TLS begins with an SSLRequest. */
  readonly asksTls: boolean
}

async function hold(target: Target, plan: IdlePlan): Promise<IdleResult> {
  // What the first clients make once is no client's own.
  for (const socket of await open(target, plan, OPENING_MAX)) socket.destroy()
  await pause(SETTLE_MS)
  const beforeBytes = target.memory()
  const startedMs = performance.now()
  const sockets: Socket[] = []
  try {
    while (sockets.length < plan.clients)
      sockets.push(
        ...(await open(target, plan, Math.min(OPENING_MAX, plan.clients - sockets.length))),
      )
    const connectMs = performance.now() - startedMs
    await pause(HOLD_MS)
    const bytesPerClient = (target.memory() - beforeBytes) / plan.clients
    const step = Math.max(1, Math.floor(plan.clients / TRIED))
    for (let index = 0; index < sockets.length; index += step) await ask(sockets[index], STATEMENT)
    const held = sockets.filter((socket) => socket.readyState === 'open').length
    const result = { name: target.name, clients: plan.clients, held, bytesPerClient, connectMs }
    plan.progress(
      `${plan.isTls ? 'idle-tls' : 'idle'}: ${target.name} holds ${held}, ${Math.round(bytesPerClient)} bytes each`,
    )
    return result
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

function open(target: Target, { isTls }: IdlePlan, count: number): Promise<Socket[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const plain = connect({ port: target.port, host: '127.0.0.1', noDelay: true })
      plain.on('error', () => undefined)
      await once(plain, 'connect')
      const socket = isTls ? await secured(plain, target) : plain
      await ask(socket, target.hello)
      return socket
    }),
  )
}

async function secured(plain: Socket, { asksTls }: Target): Promise<Socket> {
  if (asksTls) {
    plain.write(SSL_REQUEST)
    await once(plain, 'data')
  }
  const socket = connectTls({ socket: plain, rejectUnauthorized: false })
  socket.on('error', () => undefined)
  await once(socket, 'secureConnect')
  return socket
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
