/**
 * `npm start`: a real cluster and pgsteer in front of it, for somebody who wants to see what it does.
 * Starts, says what to try, kills and promotes when told to, and takes everything away at the end.
 */
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { reasonOf } from '../base/errors.ts'
import { EmbeddedCluster } from './cluster.ts'
import { configure, PROGRAM, Proxy, type ProxyPorts } from './proxy.ts'

const REPLICAS = 2

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** What a person can do something about: shown without a stack. */
class DemoError extends Error {}

class Demo {
  readonly #cluster: EmbeddedCluster
  readonly #ports: ProxyPorts
  #proxy: Proxy | undefined
  #isFailingOver = false
  #stopping: Promise<void> | undefined

  constructor(cluster: EmbeddedCluster, ports: ProxyPorts) {
    this.#cluster = cluster
    this.#ports = ports
  }

  async start(): Promise<void> {
    const demo = await this.#cluster.primary.connect('demo', 'demo')
    await demo.query(
      `CREATE TABLE IF NOT EXISTS visits (
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         note text NOT NULL,
         at timestamptz NOT NULL DEFAULT now())`,
    )
    await demo.end()
    const ini = await configure(this.#cluster, this.#ports)
    if (!Proxy.isBuilt) {
      say(`Without ${PROGRAM} there is only the cluster; it would run with ${ini}.`)
      return
    }
    say('Starting pgsteer')
    const proxy = await Proxy.start(this.#cluster, ini, this.#ports)
    this.#proxy = proxy
    void proxy.ended.then(() => this.#onProxyEnded(proxy))
  }

  /** Text for a person: what runs where and what to type. */
  get guide(): string {
    const { port, httpPort } = this.#ports
    const url = `postgres://demo:demo@127.0.0.1:${port}/demo`
    const others = port === 6432 ? '' : `PGSTEER_DEMO_PORT=${port} `
    const psql = hasPsql() ? `\n                or: psql ${url}` : ''
    return `
pgsteer is on ${url}
in front of PostgreSQL 18: ${this.#members()}

  Connect       ${others}npm run sql${psql}
                (another terminal; superuser postgres, password postgres)

  Reads land on replicas, writes on the primary. See by the ports:
                select inet_server_port();
                insert into visits (note) values ('hello') returning inet_server_port();
                select count(*), inet_server_port() from visits;

  Metrics       http://127.0.0.1:${httpPort}/metrics
  Cluster       http://127.0.0.1:${httpPort}/api/cluster

  Press k${process.stdin.isTTY ? '' : ' and Enter'} to kill the primary: a replica is promoted, every row is kept, and the
  dead one comes back as a replica. The same from elsewhere: kill -USR2 ${process.pid}
  Press q${process.stdin.isTTY ? '' : ' and Enter'} or Ctrl-C to stop. Nothing stays behind.
`
  }

  /** Kills the primary as if its machine had gone, and does what a failover manager would do then. */
  async failOver(): Promise<void> {
    if (this.#isFailingOver || this.#stopping !== undefined) return
    this.#isFailingOver = true
    try {
      const old = this.#cluster.primary
      const started = performance.now()
      await this.#cluster.kill(old.name, 'SIGKILL')
      say(`Killed ${old.name}, the primary on port ${old.port}.`)
      const chosen = await this.#cluster.promoteMostAdvanced()
      const ms = Math.round(performance.now() - started)
      say(`Promoted ${chosen.name} on port ${chosen.port}, ${ms} ms after the kill.`)
      await this.#cluster.restartAsReplica(old.name)
      say(`${old.name} is back as a replica. Now: ${this.#members()}`)
    } catch (error) {
      if (this.#stopping !== undefined) return
      say(`The failover did not work: ${reasonOf(error)}`)
    } finally {
      this.#isFailingOver = false
    }
  }

  /** May be called twice; resolves when nothing is left. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll()
    return this.#stopping
  }

  async #stopAll(): Promise<void> {
    await this.#proxy?.stop()
    await this.#cluster.stop()
  }

  #members(): string {
    const { primary } = this.#cluster
    const named = this.#cluster.members.map((member) => {
      const role = member === primary ? 'primary' : 'replica'
      return `${member.name} (${role}, port ${member.port})`
    })
    return named.join(', ')
  }

  async #onProxyEnded(proxy: Proxy): Promise<void> {
    if (this.#stopping !== undefined) return
    say(`pgsteer ended by itself. Its last lines:\n${proxy.logEnd}`)
    process.exitCode = 1
    await this.stop()
    process.exit()
  }
}

function portsOfEnvironment(): ProxyPorts {
  return {
    port: portOf('PGSTEER_DEMO_PORT', 6432),
    httpPort: portOf('PGSTEER_DEMO_HTTP_PORT', 9632),
  }
}

function portOf(variable: string, otherwise: number): number {
  const port = Number(process.env[variable] ?? otherwise)
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port
  throw new DemoError(`${variable} has to be a port number.`)
}

async function checkFree(port: number, variable: string): Promise<void> {
  const server = createServer()
  server.listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch (error) {
    throw new DemoError(
      `Port ${port} on 127.0.0.1 cannot be had (${reasonOf(error)}). Stop what uses it ` +
        `(another npm start, a PgBouncer?) or take another one: ${variable}=${port + 1} npm start`,
      { cause: error },
    )
  }
  await once(server.close(), 'close')
}

function hasPsql(): boolean {
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  return folders.some((folder) => {
    try {
      accessSync(join(folder, 'psql'), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Single keys on a terminal, lines from anything else; the end of the input means nothing. */
function onKey(run: (key: string) => void): void {
  const { stdin } = process
  if (stdin.isTTY) {
    stdin.setRawMode(true)
    process.once('exit', () => stdin.setRawMode(false))
    stdin.on('data', (bytes) => run(bytes.toString().charAt(0)))
    return
  }
  createInterface({ input: stdin }).on('line', (line) => run(line.trim()))
}

async function main(): Promise<void> {
  let demo: Demo | undefined
  let isQuitting = false
  const quit = async (): Promise<void> => {
    if (isQuitting) return
    isQuitting = true
    say('Stopping ...')
    await demo?.stop()
    process.exit()
  }
  // Before the cluster is up there is nothing to stop by hand: its watchdog takes it away.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => void quit())
  process.on('disconnect', () => void quit())

  const ports = portsOfEnvironment()
  await checkFree(ports.port, 'PGSTEER_DEMO_PORT')
  await checkFree(ports.httpPort, 'PGSTEER_DEMO_HTTP_PORT')
  const cluster = await EmbeddedCluster.start({ replicas: REPLICAS, progress: say })
  demo = new Demo(cluster, ports)
  const running = demo
  try {
    await running.start()
  } catch (error) {
    await running.stop()
    throw error
  }
  process.on('SIGUSR2', () => void running.failOver())
  onKey((key) => {
    if (key === 'k') void running.failOver()
    if (key === 'q' || key === '\u0003' || key === '\u0004') void quit()
  })
  say(running.guide)
}

try {
  await main()
} catch (error) {
  const isPlain = error instanceof DemoError
  process.stderr.write(`${isPlain || !(error instanceof Error) ? reasonOf(error) : error.stack}\n`)
  process.exit(1)
}
