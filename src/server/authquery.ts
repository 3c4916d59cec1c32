/**
 * auth_query: asks a server for the secret of a user who is not in auth_file, through `pg`, as
 * auth_user, on connections of its own that no client ever touches: no setting of a client, its
 * search_path least of all, is in effect there. Any member may answer; the primary is asked first.
 * It remembers no answer (auth/lookup.ts does).
 *
 *     ask ──► one of at most 4 queries, else a bounded queue ──► member ──► next member
 *      ▲                                                                        │
 *      └──── after a pause, while the reason is one that may pass ◄─────────────┘
 */
import { type PoolConfig as PgPoolConfig, Pool } from 'pg'
import type { AuthQuery } from '../auth/lookup.ts'
import { parseSecret } from '../auth/secret.ts'
import { type Clock, wait } from '../base/clock.ts'
import { ProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import { Queue } from '../base/queue.ts'
import type { Topology } from '../cluster/topology.ts'
import { type Config, type DatabaseConfig, databaseOf } from '../config/config.ts'
import { type Address, namedSocket } from '../net/dial.ts'
import type { ServerTls } from '../net/tls.ts'

export interface AuthQueryDeps {
  config(): Config
  topology(): Topology
  readonly tls: ServerTls
  readonly clock: Clock
  /** The database was disabled on the console. */
  isDisabled?(database: string): boolean
}

/** Queries under way at once; a storm of log-ins must not take the servers' connections. */
const QUERIES_MAX = 4
/** For one member: connecting and the query each. */
const MEMBER_MS_MAX = 3000
/** For one question, waiting for its turn included; no longer than the client may take to log in. */
const QUESTION_MS_MAX = 10_000
/** From one round through the members to the next. */
const PAUSE_MS = 250
/** A cluster of a few seconds: what the question needs may be made just now. */
const MISSING_MS_MAX = 3000
const IDLE_MS = 30_000
/** Connection pools kept: one per member, database and user. */
const POOLS_MAX = 32
const MEMBERS_MAX = 8

/** Who runs the query, where, and what it is. */
interface Task {
  readonly sql: string
  readonly database: string
  readonly user: string
  readonly password: string
  readonly addresses: readonly Address[]
}

/**
 * The function that auth/lookup.ts asks. Null: no such user, or no auth_user is configured.
 *
 * Errors  ProxyError `auth_query_failed` when no member gave an answer in time, the cause says why;
 *         `auth_database_disabled`.
 */
export function authQuery(deps: AuthQueryDeps): AuthQuery {
  const runner = new Runner(deps)
  return (user, database) => runner.ask(user, database)
}

class Runner {
  readonly #deps: AuthQueryDeps
  readonly #pools = new Map<string, Pool>()
  readonly #waiting: Queue<() => void>
  #running = 0

  constructor(deps: AuthQueryDeps) {
    this.#deps = deps
    this.#waiting = new Queue(deps.config().pgsteer.clientLoginWaitersMax)
  }

  async ask(user: string, database: string): Promise<string | null> {
    const { clock } = this.#deps
    const sinceMs = clock.nowMs()
    const { clientLoginTimeoutMs } = this.#deps.config().pgbouncer
    const untilMs = sinceMs + Math.min(QUESTION_MS_MAX, clientLoginTimeoutMs || QUESTION_MS_MAX)
    for (;;) {
      const task = this.#taskFor(database)
      if (task === null) return null
      const answer = await this.#round(task, user, untilMs)
      if (answer.failure === null) return answer.secret
      const nextMs = clock.nowMs() + PAUSE_MS
      const mayPass = PATIENCE[kindOf(answer.failure)] > nextMs - sinceMs
      if (!mayPass || nextMs >= untilMs) throw failed(answer.failure)
      await wait(clock, PAUSE_MS)
    }
  }

  async #round(task: Task, user: string, untilMs: number): Promise<Answer> {
    await this.#begin(untilMs)
    try {
      return await this.#askMembers(task, user, untilMs)
    } finally {
      this.#end()
    }
  }

  #taskFor(clientDatabase: string): Task | null {
    const config = this.#deps.config()
    const { pgbouncer } = config
    const own = databaseOf(config, clientDatabase)
    const user = own?.authUser ?? pgbouncer.authUser
    if (user === null) return null
    const name = own?.authDbname ?? pgbouncer.authDbname ?? clientDatabase
    const entry = databaseOf(config, name)
    if (entry === undefined) return null
    if (this.#deps.isDisabled?.(name) === true)
      throw new ProxyError('auth_database_disabled', { database: name })
    return {
      sql: own?.authQuery ?? pgbouncer.authQuery,
      database: entry.dbname ?? name,
      user,
      password: passwordOf(config, user),
      addresses: this.#addressesOf(entry),
    }
  }

  /** The primary, then the other members, those that answered probes before those that did not. */
  #addressesOf(entry: DatabaseConfig): readonly Address[] {
    const { hosts, port } = entry
    if (hosts.length > 0) return hosts.slice(0, MEMBERS_MAX).map((host) => ({ host, port }))
    const { members, primary } = this.#deps.topology()
    const rank = (name: string, isSeen: boolean): number => {
      if (name === primary) return 0
      return isSeen ? 1 : 2
    }
    return members
      .toSorted(
        (left, right) =>
          rank(left.name, left.sample !== null) - rank(right.name, right.sample !== null),
      )
      .slice(0, MEMBERS_MAX)
  }

  /** Of several failures the one counts that is least likely to pass. */
  async #askMembers(task: Task, user: string, untilMs: number): Promise<Answer> {
    let failure: unknown = new Error('there is no member to ask')
    for (const [index, address] of task.addresses.entries()) {
      if (this.#deps.clock.nowMs() >= untilMs) break
      try {
        return { secret: await this.#askMember(task, address, user), failure: null }
      } catch (error) {
        const isWorse = PATIENCE[kindOf(error)] <= PATIENCE[kindOf(failure)]
        if (index === 0 || isWorse) failure = error
      }
    }
    return { secret: null, failure }
  }

  async #askMember(task: Task, address: Address, user: string): Promise<string | null> {
    const { mode } = this.#deps.tls
    const isUnix = address.host.startsWith('/') || address.host.startsWith('@')
    const withTls = !isUnix && mode !== 'disable' && mode !== 'allow'
    try {
      return await this.#query(task, { address, withTls }, user)
    } catch (error) {
      if (isUnix || !mayFlip(error, withTls, mode)) throw error
      return this.#query(task, { address, withTls: !withTls }, user)
    }
  }

  /** The first row counts; a NULL user is no row, a NULL secret is a user who cannot log in. */
  async #query(task: Task, way: Way, user: string): Promise<string | null> {
    const pool = this.#poolFor(task, way)
    const { rows } = await pool.query<(string | null)[]>({
      text: task.sql,
      values: [user],
      rowMode: 'array',
    })
    const [name, secret] = rows[0] ?? []
    return name === null || name === undefined ? null : (secret ?? null)
  }

  #poolFor(task: Task, way: Way): Pool {
    const { host, port } = way.address
    const key = [host, port, way.withTls, task.database, task.user, task.password].join('\0')
    const known = this.#pools.get(key)
    if (known !== undefined) return known
    const pool = new Pool(this.#poolOptions(task, way))
    // A connection that breaks while idle is dropped by the pool; there is nothing to do about it.
    pool.on('error', () => undefined)
    this.#pools.set(key, pool)
    const [oldest] = this.#pools.keys()
    if (this.#pools.size > POOLS_MAX && oldest !== undefined) this.#forget(oldest)
    return pool
  }

  #poolOptions(task: Task, { address, withTls }: Way): PgPoolConfig {
    return {
      host: address.host,
      port: address.port,
      user: task.user,
      password: task.password,
      database: task.database,
      ssl: withTls ? this.#deps.tls.options(address.host) : false,
      application_name: 'pgsteer auth_query',
      max: QUERIES_MAX,
      idleTimeoutMillis: IDLE_MS,
      connectionTimeoutMillis: MEMBER_MS_MAX,
      query_timeout: MEMBER_MS_MAX,
      allowExitOnIdle: true,
      stream: namedSocket,
      types: { getTypeParser: () => String },
    }
  }

  /** Ends when the queries under way are over; nobody waits for that. */
  #forget(key: string): void {
    const pool = this.#pools.get(key)
    this.#pools.delete(key)
    pool?.end().catch(() => undefined)
  }

  #begin(untilMs: number): Promise<void> {
    if (this.#running < QUERIES_MAX) {
      this.#running += 1
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const { clock } = this.#deps
      const start = (): void => {
        timer.cancel()
        resolve()
      }
      const timer = clock.after(untilMs - clock.nowMs(), () => {
        this.#waiting.remove(start)
        reject(failed(new Error('auth_query did not get its turn in time')))
      })
      if (this.#waiting.push(start)) return
      timer.cancel()
      reject(failed(new Error('too many clients wait for auth_query (client_login_waiters_max)')))
    })
  }

  /** The next in the queue takes over the place. */
  #end(): void {
    const next = this.#waiting.shift()
    if (next !== undefined) {
      next()
      return
    }
    this.#running -= 1
    invariant(this.#running >= 0, 'queries end as often as they begin')
  }
}

/** `failure`  null: it was answered. */
type Answer =
  | { readonly secret: string | null; readonly failure: null }
  | { readonly secret: null; readonly failure: unknown }

/** `away`: nobody answers now. `missing`: what it needs is not there. `wrong`: the question is. */
type FailureKind = 'away' | 'missing' | 'wrong'

/** For how long a question is asked again. */
const PATIENCE: Readonly<Record<FailureKind, number>> = {
  away: Number.POSITIVE_INFINITY,
  missing: MISSING_MS_MAX,
  wrong: 0,
}

/** The role, its password, the database, the schema, the table, the function, the right to use them. */
const MISSING = new Set(['28000', '28P01', '3D000', '3F000', '42P01', '42883', '42501'])
/** Connection lost, no room, not now. */
const AWAY_CLASSES = new Set(['08', '53', '57'])

function kindOf(error: unknown): FailureKind {
  if (!(error instanceof Error)) return 'wrong'
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (MISSING.has(code)) return 'missing'
  // Without an SQLSTATE it is about the connection: one has five characters, no word of the system has.
  const isSql = /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]{4}$/.test(code)
  return !isSql || AWAY_CLASSES.has(code.slice(0, 2)) ? 'away' : 'wrong'
}

interface Way {
  readonly address: Address
  readonly withTls: boolean
}

/** auth_user's own secret: `pg` proves a password, and can prove nothing else. */
function passwordOf(config: Config, user: string): string {
  const secret = parseSecret(config.userlist.get(user) ?? '')
  if (secret.kind === 'plain') return secret.password
  throw failed(new Error(`auth_user "${user}" needs a plain password in auth_file`))
}

/** As libpq's allow and prefer: the other way when this one is refused as such. */
function mayFlip(error: unknown, withTls: boolean, mode: ServerTls['mode']): boolean {
  if ((mode !== 'allow' && mode !== 'prefer') || !(error instanceof Error)) return false
  const code = 'code' in error ? error.code : undefined
  return code === '28000' || (withTls && error.message.includes('support SSL'))
}

function failed(cause: unknown): ProxyError {
  return cause instanceof ProxyError ? cause : new ProxyError('auth_query_failed', {}, cause)
}
