/**
 * HAProxy in front of a Patroni cluster, with the configuration that Patroni ships as its sample:
 * one port for the primary, one for replicas, health checks against Patroni's REST API.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { program } from './debian.ts'
import type { PatroniMember, Place } from './patroni.ts'
import { freePort } from './steer.ts'
import { waitFor } from './wait.ts'

export class HaProxy {
  readonly host: string
  readonly primaryPort: number
  readonly replicaPort: number
  readonly #child: ChildProcess
  readonly #directory: string
  readonly #onExit = (): void => void this.#child.kill('SIGKILL')

  private constructor(
    at: { readonly host: string; readonly ports: readonly [number, number] },
    child: ChildProcess,
    directory: string,
  ) {
    this.host = at.host
    ;[this.primaryPort, this.replicaPort] = at.ports
    this.#child = child
    this.#directory = directory
    process.on('exit', this.#onExit)
  }

  /**
   * Resolves when both ports take connections.
   *
   * Errors  Error with its log when it ends or is not ready in time.
   */
  static async start(members: readonly PatroniMember[], place?: Place): Promise<HaProxy> {
    const host = place?.host ?? '127.0.0.1'
    const ports = [await freePort(), await freePort()] as const
    const directory = mkdtempSync(join(tmpdir(), 'pgsteer-haproxy-'))
    const file = join(directory, 'haproxy.cfg')
    writeFileSync(file, configuration(members, host, ports))
    const { file: haproxy, args, env } = program('haproxy')
    const command = [...(place?.enter ?? []), haproxy, ...args, '-db', '-f', file]
    const [first = haproxy, ...parameters] = command
    const log = openSync(join(directory, 'log'), 'a')
    const child = spawn(first, parameters, {
      env: { ...process.env, ...env },
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    const started = new HaProxy({ host, ports }, child, directory)
    try {
      for (const port of ports) await waitFor(`port ${port}`, () => answers(child, host, port))
      return started
    } catch (error) {
      const text = readFileSync(join(directory, 'log'), 'utf8')
      await started.stop()
      throw new Error(`HAProxy did not start:\n${text}`, { cause: error })
    }
  }

  async stop(): Promise<void> {
    process.off('exit', this.#onExit)
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit')
      this.#child.kill('SIGKILL')
      await ended
    }
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

function configuration(
  members: readonly PatroniMember[],
  host: string,
  [primaryPort, replicaPort]: readonly [number, number],
): string {
  const servers = members.map(({ name, host: address, port, restUrl }) => {
    const checked = new URL(restUrl).port
    return `    server ${name} ${address}:${port} maxconn 100 check port ${checked}`
  })
  const listen = (name: string, port: number, check: string): string[] => [
    `listen ${name}`,
    `    bind ${host}:${port}`,
    `    option httpchk OPTIONS ${check}`,
    '    http-check expect status 200',
    '    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions',
    ...servers,
  ]
  const lines = [
    'global',
    '    maxconn 400',
    'defaults',
    '    mode tcp',
    '    retries 2',
    '    timeout client 30m',
    '    timeout connect 4s',
    '    timeout server 30m',
    '    timeout check 5s',
    ...listen('primary', primaryPort, '/primary'),
    ...listen('replicas', replicaPort, '/replica'),
  ]
  return `${lines.join('\n')}\n`
}

async function answers(child: ChildProcess, host: string, port: number): Promise<boolean> {
  if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`)
  const socket = connect({ host, port })
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
