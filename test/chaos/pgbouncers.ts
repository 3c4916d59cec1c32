/**
 * A PgBouncer beside every member, in front of that member's PostgreSQL: what Patroni's
 * `proxy_address` names where poolers stand behind HAProxy.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { USER } from '../failover/steer-cluster.ts'
import { program } from '../support/debian.ts'
import type { PatroniMember, Place } from '../support/patroni.ts'
import { freePort } from '../support/steer.ts'

const POOL_SIZE = 20
/** It refuses to run as root. */
const ACCOUNT = 'nobody'

export class PgBouncers {
  /** The members, with the ports of their PgBouncers. */
  readonly members: readonly PatroniMember[]
  readonly #children: readonly ChildProcess[]
  readonly #directory: string

  private constructor(
    members: readonly PatroniMember[],
    children: readonly ChildProcess[],
    directory: string,
  ) {
    this.members = members
    this.#children = children
    this.#directory = directory
  }

  static async start(
    members: readonly PatroniMember[],
    placeOf: (member: PatroniMember) => Place,
  ): Promise<PgBouncers> {
    const directory = mkdtempSync(join(tmpdir(), 'pgsteer-pgbouncer-'))
    chmodSync(directory, 0o755)
    writeFileSync(join(directory, 'userlist.txt'), `"${USER}" "${USER}"\n`)
    const bounced: PatroniMember[] = []
    const children: ChildProcess[] = []
    for (const member of members) {
      const port = await freePort()
      const file = join(directory, `${member.name}.ini`)
      writeFileSync(file, configuration(member, port, directory))
      children.push(launch(file, placeOf(member)))
      bounced.push({ ...member, port })
    }
    return new PgBouncers(bounced, children, directory)
  }

  async stop(): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    }
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

function launch(ini: string, place: Place): ChildProcess {
  const { file: pgbouncer, args, env } = program('pgbouncer')
  const command = [...place.enter, pgbouncer, ...args, '-q', '-u', ACCOUNT, ini]
  const [file = pgbouncer, ...parameters] = command
  return spawn(file, parameters, { env: { ...process.env, ...env }, stdio: 'ignore' })
}

function configuration(member: PatroniMember, port: number, directory: string): string {
  const lines = [
    '[databases]',
    `* = host=${member.host} port=${member.port}`,
    '[pgbouncer]',
    `listen_addr = ${member.host}`,
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = scram-sha-256',
    `auth_file = ${join(directory, 'userlist.txt')}`,
    'pool_mode = transaction',
    `default_pool_size = ${POOL_SIZE}`,
    'max_client_conn = 200',
  ]
  return `${lines.join('\n')}\n`
}
