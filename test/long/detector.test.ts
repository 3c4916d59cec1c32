/**
 * The nonce detector over every shape of answer and every way through pgsteer, while servers are
 * terminated and a replica is killed, for DETECTOR_MINUTES altogether (3 when nothing is said).
 * `npm run detector` runs it alone; DETECTOR_SHAPES chooses shapes by a word of their names, DETECTOR_FAULTS
 * says how many right answers there are from one fault to the next (600), DETECTOR_SEED what the clients
 * do: a failure tells the seed that it had.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { Authority } from '../support/certificates.ts'
import { detectNonces, type NonceOptions } from '../support/nonce.ts'
import { useCluster } from '../support/postgres.ts'
import { Shifting } from '../support/shift.ts'
import { Steer, type SteerOptions } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const MINUTES = Number(process.env['DETECTOR_MINUTES'] ?? 3)
const WANTED = process.env['DETECTOR_SHAPES'] ?? ''
const CLIENTS = 48
/** Right answers from one fault to the next. */
const ANSWERS_PER_FAULT = Number(process.env['DETECTOR_FAULTS'] ?? 600)
/** The quicker the machine, the fewer of its reads have to share: a part of them would be no measure. */
const SHARED_PER_S_MIN = 5
const SEED = Number(process.env['DETECTOR_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

const directory = mkdtempSync(join(tmpdir(), 'pgsteer-detector-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))
const shared = useCluster({ replicas: 2 })

interface Shape {
  readonly name: string
  /** Asked when the servers are there. */
  readonly steer: () => SteerOptions
  readonly nonces?: Partial<NonceOptions>
  /** Reads of several clients are to go through one server, or the shape shows nothing. */
  readonly isShared: boolean
}

function through(
  pgsteer: SteerOptions['pgsteer'],
  pgbouncer: SteerOptions['pgbouncer'] = {},
): SteerOptions {
  return {
    databases: `* =\nplain = host=127.0.0.1 port=${shared.cluster.primary.port} dbname=demo`,
    pgbouncer: {
      default_pool_size: 3,
      max_prepared_statements: 20,
      log_connections: 0,
      log_disconnections: 0,
      ...pgbouncer,
    },
    pgsteer: { ...pgsteer },
  }
}

/** Behind slow reads too: a busy machine makes all of them slow, and late ones are what is looked for. */
const AUTO = { multiplex_reads: 'auto', multiplex_behind_ms_max: 1000 }

function tls(): SteerOptions['pgbouncer'] {
  const { certFile, keyFile } = new Authority(directory).issue({ commonName: 'localhost' })
  return {
    client_tls_sslmode: 'require',
    client_tls_cert_file: certFile,
    client_tls_key_file: keyFile,
  }
}

const SHAPES: readonly Shape[] = [
  { name: 'one client per server', steer: () => through({}), isShared: false },
  { name: 'shared servers of a cluster', steer: () => through(AUTO), isShared: true },
  {
    name: 'shared servers of a plain entry',
    steer: () => through(AUTO),
    nonces: { database: 'plain' },
    isShared: true,
  },
  {
    name: 'shared servers of two workers',
    steer: () => through({ ...AUTO, workers: 2 }, { default_pool_size: 4 }),
    isShared: true,
  },
  {
    name: 'shared servers, over TLS',
    steer: () => through(AUTO, tls()),
    nonces: { isTls: true },
    isShared: true,
  },
].filter(({ name }) => name.includes(WANTED))

/** Terminates servers, and now and then kills a replica, from time to time until `isOver`. */
async function disturb(progress: { readonly right: number }, isOver: () => boolean): Promise<void> {
  const { cluster } = shared
  for (let turn = 1; !isOver(); turn += 1) {
    const wanted = turn * ANSWERS_PER_FAULT
    await waitFor('more answers came', () => isOver() || progress.right >= wanted, {
      withinMs: 60_000,
    })
    if (isOver()) return
    await cluster.members[turn % 2]?.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE usename = 'demo' ORDER BY random() LIMIT 1`,
    )
    if (turn % 10 !== 5) continue
    await cluster.kill('pg3')
    await cluster.member('pg3').start()
  }
}

async function sharedReads(steer: Steer): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${steer.httpPort}/metrics`)).text()
  return Number(/^pgsteer_multiplexed_reads_total (\d+)/m.exec(text)?.[1])
}

async function detect(shape: Shape, ms: number): Promise<void> {
  const steer = await Steer.start(shared.cluster, shape.steer())
  const progress = { right: 0 }
  const endMs = performance.now() + ms
  let isBroken = false
  const isOver = (): boolean => isBroken || performance.now() > endMs
  try {
    const { workers } = steer
    const options = {
      steer,
      clients: CLIENTS,
      answers: Number.POSITIVE_INFINITY,
      slowOneIn: 100,
      seed: SEED,
    }
    const running = detectNonces({ ...options, mayBreak: true, isOver, progress, ...shape.nonces })
    const found = running.finally(() => {
      isBroken = true
    })
    const [result] = await Promise.all([found, disturb(progress, isOver)])
    process.stdout.write(
      `${shape.name}: ${JSON.stringify(result)}, ${await sharedReads(steer)} on shared servers\n`,
    )
    expect(result.wrong).toEqual([])
    expect(result.right).toBeGreaterThan(0)
    if (shape.isShared)
      expect(await sharedReads(steer)).toBeGreaterThan((ms / 1000) * SHARED_PER_S_MIN)
    expect(new Set(steer.workers)).toEqual(new Set(workers))
  } finally {
    await steer.stop()
  }
}

test('two answers that are swapped once are seen', async () => {
  const steer = await Steer.start(shared.cluster, through(AUTO))
  const shifting = await Shifting.before(steer)
  try {
    const options = { steer: shifting, clients: CLIENTS, answers: 200_000, mayBreak: true }
    const { wrong } = await detectNonces(options)
    expect(shifting.swaps).toBe(1)
    expect(wrong.join('\n')).toMatch(/client \d+ wanted n\d+\./)
  } finally {
    shifting.close()
    await steer.stop()
  }
}, 120_000)

describe(`in ${MINUTES} minutes no answer is wrong (seed ${SEED})`, () => {
  const ms = (MINUTES * 60_000) / SHAPES.length
  test.each(SHAPES)('$name', (shape) => detect(shape, ms), ms + 180_000)
})
