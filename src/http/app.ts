/**
 * The sidecar: health checks, metrics, status page and API over HTTP. It reads snapshots and runs
 * three commands of the console and Patroni's drain; it knows nothing of SQL or of the protocol.
 *
 * What changes something needs the bearer token of http_token_file. What only reads does not: the
 * port belongs on a private address (http_addr).
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify'
import { type Actions, consoleError, runCommand } from '../admin/commands.ts'
import { type Clock, wait } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { clusterJson, poolsJson } from './api.ts'
import { type Ability, type Health, healthOf } from './health.ts'
import { Metrics } from './metrics.ts'
import { PAGE, PAGE_POLICY } from './page.ts'

export interface HttpOptions {
  readonly actions: Actions
  readonly clock: Clock
  readonly log: Log
  /** Told every path that there is; for the test of the documentation. */
  readonly onRoute?: (method: string, path: string) => void
}

/** Bodies hold a database's name at most. */
const BODY_BYTES_MAX = 4096
const HEADER_BYTES_MAX = 8192
const CONNECTIONS_MAX = 512
/** From the first byte of a request to its last. */
const REQUEST_MS_MAX = 10_000
const KEEP_ALIVE_MS = 30_000
/** A connection on which nothing moves; longer than a command may take. */
const IDLE_MS_MAX = 40_000
/** How long an answer waits for a command; then it says that the command goes on. */
const COMMAND_MS_MAX = 20_000

/** The application; the caller listens with it and closes it. */
export function createApp(options: HttpOptions): FastifyInstance {
  const app = fastify({
    logger: false,
    bodyLimit: BODY_BYTES_MAX,
    connectionTimeout: IDLE_MS_MAX,
    requestTimeout: REQUEST_MS_MAX,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: true,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 100 },
    http: { maxHeaderSize: HEADER_BYTES_MAX, headersTimeout: REQUEST_MS_MAX },
  })
  app.server.maxConnections = CONNECTIONS_MAX
  app.addHook('onSend', async (_request, reply) => {
    void reply.header('x-content-type-options', 'nosniff').header('cache-control', 'no-store')
  })
  app.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat()) options.onRoute?.(one, url)
  })
  addErrors(app, options)
  addHealth(app, options)
  addReading(app, options)
  addCommands(app, options)
  return app
}

type Reply = FastifyReply

function addErrors(app: FastifyInstance, { log }: HttpOptions): void {
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0] ?? ''
    const methods = methodsOf(app, path)
    if (methods === null) return reply.code(404).send({ error: `no such path: ${path}` })
    return reply
      .code(405)
      .header('allow', methods)
      .send({ error: `${request.method} is not allowed here, use ${methods}` })
  })
  app.setErrorHandler((error, request, reply) => {
    const status = statusOf(error)
    const { message } = consoleError(error, 'postgres')
    if (status >= 500) log.warn({ path: request.url, error: message }, 'HTTP request failed')
    return reply.code(status).send({ error: status >= 500 ? message : describe(error) })
  })
}

/** What `path` can be asked with, or null. */
function methodsOf(app: FastifyInstance, path: string): string | null {
  if (app.hasRoute({ method: 'GET', url: path })) return 'GET, HEAD'
  return app.hasRoute({ method: 'POST', url: path }) ? 'POST' : null
}

function statusOf(error: unknown): number {
  const status: unknown = error instanceof Error ? Reflect.get(error, 'statusCode') : undefined
  return typeof status === 'number' && status >= 400 ? status : 503
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function addHealth(app: FastifyInstance, options: HttpOptions): void {
  const check = (path: string, answer: (health: Health, reply: Reply) => unknown): void => {
    // HAProxy's plain httpchk asks with OPTIONS.
    app.route({
      method: ['GET', 'OPTIONS'],
      url: path,
      handler: async (_request, reply) => {
        const snapshot = await options.actions.snapshot('counts')
        return await answer(healthOf(snapshot), reply)
      },
    })
  }
  // Alive is a process that answers: whether the cluster is well is not its health.
  app.get('/livez', () => ({ status: 'alive' }))
  check('/readyz', (health, reply) => reply.code(health.isReady ? 200 : 503).send(health))
  check('/primary', ({ write, primary }, reply) => role(reply, write, { primary }))
  check('/replica', ({ replica, replicas }, reply) => role(reply, replica, { replicas }))
  check('/read-only', ({ read, primary, replicas }, reply) =>
    role(reply, read, { primary, replicas }),
  )
}

function role(reply: Reply, ability: Ability, where: object): Reply {
  return reply.code(ability.can ? 200 : 503).send({ ...ability, ...where })
}

function addReading(app: FastifyInstance, { actions }: HttpOptions): void {
  const metrics = new Metrics()
  app.get('/', (_request, reply) =>
    reply
      .header('content-security-policy', PAGE_POLICY)
      .type('text/html; charset=utf-8')
      .send(PAGE),
  )
  app.get('/api/cluster', async () => clusterJson(await actions.snapshot('counts')))
  app.get('/api/pools', async () => poolsJson(await actions.snapshot('counts')))
  app.get('/metrics', async (request, reply) => {
    const snapshot = await actions.snapshot('counts')
    const printed = await metrics.print(snapshot, request.headers.accept ?? '')
    return await reply.type(printed.contentType).send(printed.body)
  })
}

function addCommands(app: FastifyInstance, options: HttpOptions): void {
  const command = (path: string, verb: string, takesDatabase: boolean): void => {
    app.post(path, { onRequest: requireToken(options) }, async (request, reply) => {
      const database = takesDatabase ? fieldOf(request.body, 'database') : null
      const argument = database === null ? '' : ` "${database.replaceAll('"', '""')}"`
      return await run(`${verb}${argument}`, options, reply)
    })
  }
  command('/api/reload', 'RELOAD', false)
  command('/api/pause', 'PAUSE', true)
  command('/api/resume', 'RESUME', true)
  app.post('/api/drain', { onRequest: requireToken(options) }, (request) =>
    options.actions.drain(fieldOf(request.body, 'member')),
  )
}

async function run(
  sql: string,
  { actions, clock, log }: HttpOptions,
  reply: Reply,
): Promise<Reply> {
  log.info({ command: sql }, 'command over HTTP')
  const result = await Promise.race([
    runCommand(sql, 'admin', actions, 'postgres'),
    wait(clock, COMMAND_MS_MAX).then(() => null),
  ])
  if (result === null) return await reply.code(202).send({ status: 'under way' })
  if (result.kind === 'error') {
    const { message, detail, sqlstate } = result.error
    const status = sqlstate.startsWith('58') ? 503 : 409
    return await reply.code(status).send({ error: message, detail, sqlstate })
  }
  const notices = result.kind === 'done' ? result.notices.map(({ message }) => message) : []
  return await reply.send({ status: 'done', notices })
}

/**
 * The body is nothing, or `{"<field>": "name"}` and nothing else: a misspelt field must not mean
 * everything.
 */
function fieldOf(body: unknown, field: 'database' | 'member'): string | null {
  if (body === undefined || body === null) return null
  const fields = typeof body === 'object' ? Object.keys(body) : ['?']
  if (fields.length === 0) return null
  const name: unknown = typeof body === 'object' ? Reflect.get(body, field) : undefined
  if (fields.length === 1 && typeof name === 'string' && name !== '') return name
  throw new BadBody(`the body must be empty or {"${field}": "name"}`)
}

class BadBody extends Error {
  readonly statusCode = 400
}

function requireToken({ actions }: HttpOptions) {
  return async (request: FastifyRequest, reply: Reply): Promise<void> => {
    const token = actions.config().httpToken
    if (token === null) {
      await reply.code(403).send({ error: 'http_token_file is not set: this port changes nothing' })
      return
    }
    const given = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? ''
    if (!isSame(given, token)) {
      void reply.header('www-authenticate', 'Bearer')
      await reply.code(401).send({ error: 'a bearer token is needed, that of http_token_file' })
    }
  }
}

/** Compares digests, so that neither content nor length shows in the time it takes. */
function isSame(one: string, other: string): boolean {
  return timingSafeEqual(digest(one), digest(other)) && other !== ''
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
