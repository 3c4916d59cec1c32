/**
 * `npm run bench:soak`: an hour of mixed load at a modest rate through pgsteer, on a real cluster
 * whose primary is killed every few minutes, while the memory of pgsteer's processes is noted.
 * Writes bench/results/soak.json and docs/pictures/soak.svg. Judges nothing but that no answer was
 * somebody else's; whether memory grows is printed, and shown.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { reasonOf } from '../../src/base/errors.ts'
import { EmbeddedCluster } from '../../src/demo/cluster.ts'
import { Authority } from '../../test/support/certificates.ts'
import { Steer } from '../../test/support/steer.ts'
import { machine } from '../machine.ts'
import { picture } from './picture.ts'
import { growthOf, readMemory, type Sample } from './samples.ts'
import { idleClients, TABLES, Traffic } from './traffic.ts'

const RESULTS = resolve(import.meta.dirname, '../results')
const PICTURES = resolve(import.meta.dirname, '../../docs/pictures')
const REPLICAS = 2
const WORKERS = 2
const MIB = 2 ** 20
const TRIES = 20
const TRY_AGAIN_MS = 3000
const DEFINITION = {
  minutes: { type: 'string', default: '60' },
  clients: { type: 'string', default: '40' },
  idle: { type: 'string', default: '200' },
  pace: { type: 'string', default: '150' },
  'failover-every': { type: 'string', default: '300' },
  'sample-every': { type: 'string', default: '10' },
  multiplex: { type: 'string' },
} as const

function progress(text: string): void {
  process.stderr.write(`${text}\n`)
}

interface Plan {
  readonly minutes: number
  readonly failoverEveryS: number
  readonly sampleEveryS: number
}

class Soak {
  readonly samples: Sample[] = []
  readonly failoversS: number[] = []
  readonly #cluster: EmbeddedCluster
  readonly #steer: Steer
  readonly #traffic: Traffic
  readonly #startedMs = performance.now()
  #isOver = false

  constructor(cluster: EmbeddedCluster, steer: Steer, traffic: Traffic) {
    this.#cluster = cluster
    this.#steer = steer
    this.#traffic = traffic
  }

  /** Until the time is over, or an interrupt ends it before: what was noted is kept. */
  async run(plan: Plan): Promise<void> {
    process.once('SIGINT', () => {
      this.#isOver = true
    })
    const failing = this.#failOver(plan).catch((error: unknown) => {
      this.#isOver = true
      throw error
    })
    // Awaited at the end.
    failing.catch(() => undefined)
    const url = `http://${this.#steer.host}:${this.#steer.httpPort}/metrics`
    let before = { answered: 0, failed: 0, atS: 0 }
    while (this.#atS < plan.minutes * 60 && !this.#isOver) {
      await pause(plan.sampleEveryS * 1000)
      const processes = await readMemory(url).catch(() => null)
      if (processes === null) continue
      const { answered, failed } = this.#traffic
      const atS = this.#atS
      const perS = (count: number): number => Math.round((count / (atS - before.atS)) * 10) / 10
      const answeredPerS = perS(answered - before.answered)
      const failedPerS = perS(failed - before.failed)
      this.samples.push({ atS, processes, answeredPerS, failedPerS })
      before = { answered, failed, atS }
    }
    this.#isOver = true
    await failing
  }

  get #atS(): number {
    return Math.round((performance.now() - this.#startedMs) / 100) / 10
  }

  /** Kills the primary, promotes a replica and has the dead one come back as one. */
  async #failOver({ minutes, failoverEveryS }: Plan): Promise<void> {
    for (
      let dueS = failoverEveryS;
      dueS < minutes * 60 - failoverEveryS / 2;
      dueS += failoverEveryS
    ) {
      while (this.#atS < dueS && !this.#isOver) await pause(500)
      if (this.#isOver) return
      const old = this.#cluster.primary
      this.failoversS.push(this.#atS)
      await this.#cluster.kill(old.name, 'SIGKILL')
      await again('promoting', async () => {
        if (this.#cluster.primary === old) await this.#cluster.promoteMostAdvanced()
      })
      await again('coming back', () => this.#cluster.restartAsReplica(old.name))
      const { answered, failed } = this.#traffic
      const { name } = this.#cluster.primary
      progress(
        `${this.#atS} s: ${old.name} killed, ${name} is primary; ${answered} answered, ${failed} failed`,
      )
    }
  }
}

/** A busy machine makes the cluster's own steps late, which is no reason to end an hour's run. */
async function again(what: string, step: () => Promise<unknown>): Promise<void> {
  for (let left = TRIES; left > 0; left -= 1)
    try {
      await step()
      return
    } catch (error) {
      if (left === 1) throw error
      progress(`${what} failed, tried again: ${reasonOf(error)}`)
      await pause(TRY_AGAIN_MS)
    }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: DEFINITION })
  await using stack = new AsyncDisposableStack()
  const cluster = await EmbeddedCluster.start({ replicas: REPLICAS, progress })
  stack.defer(() => cluster.stop())
  const owner = await cluster.connect(cluster.primary.name, 'demo')
  await owner.query(`${TABLES} GRANT ALL ON soak_rows, soak_written TO demo;`)
  await owner.end()
  const tls = new Authority(join(cluster.directory, 'tls')).issue({
    commonName: 'localhost',
    names: 'DNS:localhost,IP:127.0.0.1',
  })
  const steer = await Steer.start(cluster, {
    pgbouncer: {
      client_tls_sslmode: 'allow',
      client_tls_cert_file: tls.certFile,
      client_tls_key_file: tls.keyFile,
      log_connections: 0,
      log_disconnections: 0,
    },
    pgsteer: {
      workers: WORKERS,
      ...(values.multiplex === undefined ? {} : { multiplex_reads: values.multiplex }),
    },
  })
  stack.defer(() => steer.stop())
  const idle = await idleClients(steer, Number(values.idle))
  stack.defer(
    async () => void (await Promise.all(idle.map((one) => one.end().catch(() => undefined)))),
  )
  const traffic = new Traffic(steer, {
    clients: Number(values.clients),
    paceMs: Number(values.pace),
  })
  traffic.start()
  stack.defer(() => traffic.stop())
  const soak = new Soak(cluster, steer, traffic)
  try {
    await soak.run({
      minutes: Number(values.minutes),
      failoverEveryS: Number(values['failover-every']),
      sampleEveryS: Number(values['sample-every']),
    })
  } finally {
    keep(soak, traffic)
  }
  if (traffic.wrong > 0) throw new Error(`${traffic.wrong} answers were somebody else's`)
}

function keep({ samples, failoversS }: Soak, traffic: Traffic): void {
  const growth = growthOf(samples)
  for (const { process, what, earlyBytes, lateBytes } of growth)
    progress(
      `${process} ${what}: ${(earlyBytes / MIB).toFixed(1)} -> ${(lateBytes / MIB).toFixed(1)} MiB`,
    )
  const { answered, wrong, errors } = traffic
  const run = { at: new Date().toISOString(), command: commandLine(), machine: machine() }
  const json = { ...run, answered, wrong, errors, growth, failoversS, samples }
  mkdirSync(RESULTS, { recursive: true })
  mkdirSync(PICTURES, { recursive: true })
  writeFileSync(join(RESULTS, 'soak.json'), `${JSON.stringify(json)}\n`)
  const minutes = Math.round((samples.at(-1)?.atS ?? 0) / 60)
  const title = `${minutes} minutes of mixed load, the primary killed ${failoversS.length} times`
  writeFileSync(join(PICTURES, 'soak.svg'), `${picture(title, samples, failoversS)}\n`)
  progress(`${answered} answered, ${wrong} wrong, ${JSON.stringify(errors)} failed`)
}

function commandLine(): string {
  return ['npm run bench:soak --', ...process.argv.slice(2)].join(' ')
}

try {
  await main()
} catch (error) {
  process.stderr.write(`${reasonOf(error)}\n`)
  process.exitCode = 1
}
