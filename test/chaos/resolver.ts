/**
 * A name server (dnsmasq) at a site of its own network, and a way in for a program that asks
 * nobody else: its resolv.conf, in a mount namespace of its own. What it says of a name can be
 * changed, and it can be made to say nothing at all.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { program } from '../support/debian.ts'
import type { Place } from '../support/patroni.ts'
import { waitFor } from '../support/wait.ts'

/** Reserved for tests (RFC 6761): no other name server knows of it. */
const ZONE = 'pgsteer.test'
const ENTER = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'

export class Resolver {
  /** Where its one client runs. */
  readonly place: Place
  readonly #child: ChildProcess
  readonly #directory: string
  readonly #addresses: Map<string, string>
  readonly #onExit = (): void => void this.#child.kill('SIGKILL')

  private constructor(
    place: Place,
    child: ChildProcess,
    parts: { directory: string; addresses: Map<string, string> },
  ) {
    this.#child = child
    this.#directory = parts.directory
    this.#addresses = parts.addresses
    const enter = ['unshare', '--mount', 'sh', '-c', ENTER, join(parts.directory, 'resolv.conf')]
    this.place = { ...place, enter: [...place.enter, ...enter] }
    process.on('exit', this.#onExit)
  }

  /**
   * Resolves when it answers. `addresses`: by the first label of each name.
   *
   * Errors  Error with its log when it ends or is not ready in time.
   */
  static async start(place: Place, addresses: ReadonlyMap<string, string>): Promise<Resolver> {
    const directory = mkdtempSync(join(tmpdir(), 'pgsteer-resolver-'))
    const hosts = join(directory, 'hosts')
    const known = new Map(addresses)
    writeFileSync(hosts, hostsText(known))
    writeFileSync(join(directory, 'resolv.conf'), 'nameserver 127.0.0.1\n')
    const { file, args, env } = program('dnsmasq')
    const flags = [
      '--keep-in-foreground',
      '--conf-file=/dev/null',
      '--pid-file=',
      '--user=root',
      '--log-facility=-',
      '--no-resolv',
      '--no-hosts',
      `--addn-hosts=${hosts}`,
      `--local=/${ZONE}/`,
      '--listen-address=127.0.0.1',
      '--bind-interfaces',
    ]
    const [first = file, ...parameters] = [...place.enter, file, ...args, ...flags]
    const log = openSync(join(directory, 'log'), 'a')
    const child = spawn(first, parameters, {
      env: { ...process.env, ...env },
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    const started = new Resolver(place, child, { directory, addresses: known })
    try {
      await waitFor('the name server', () => started.#log.includes(`read ${hosts}`))
      return started
    } catch (error) {
      const text = started.#log
      await started.stop()
      throw new Error(`dnsmasq did not start:\n${text}`, { cause: error })
    }
  }

  nameOf(label: string): string {
    return `${label}.${ZONE}`
  }

  /** What it says of a name from now on; null: there is no such name. */
  tell(label: string, address: string | null): void {
    if (address === null) this.#addresses.delete(label)
    else this.#addresses.set(label, address)
    writeFileSync(join(this.#directory, 'hosts'), hostsText(this.#addresses))
    this.#child.kill('SIGHUP')
  }

  /** It takes questions and answers none. */
  freeze(): void {
    this.#child.kill('SIGSTOP')
  }

  thaw(): void {
    this.#child.kill('SIGCONT')
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

  get #log(): string {
    return readFileSync(join(this.#directory, 'log'), 'utf8')
  }
}

function hostsText(addresses: ReadonlyMap<string, string>): string {
  return [...addresses].map(([label, address]) => `${address} ${label}.${ZONE}\n`).join('')
}
