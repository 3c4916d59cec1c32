/** A client with something under way on a server, the ways in which that server is lost, and what it is told. */
import { ProxyError } from '../../src/base/errors.ts'
import type { ServerConnection } from '../../src/server/connection.ts'
import { backend, errorFields, frames, frontend } from './bytes.ts'
import { flush, routedIni, topology } from './pools.ts'
import { type Client, SessionWorld } from './session.ts'

export const WAYS = ['fatal', 'notice', 'eof', 'fence'] as const
type Way = (typeof WAYS)[number]
export type Role = 'primary' | 'replica'

export async function lose(world: SessionWorld, server: ServerConnection, way: Way): Promise<void> {
  const channel = world.world.channelOf(server)
  if (way === 'fatal')
    server.onBytes(backend.errorResponse('57P01', 'terminating connection', 'FATAL'))
  else if (way === 'notice')
    server.onBytes(backend.noticeResponse('57P01', 'immediate shutdown', 'WARNING'))
  else if (way === 'fence') server.destroy(new ProxyError('primary_lost', { reason: 'fenced' }))
  channel.finish()
  await flush()
}

/** What a client got since the last look: errors as their SQLSTATE, ReadyForQuery as Z and status. */
export function told(client: Client): string {
  const words = frames(client.take()).frames.map(({ type, body }) => {
    if (type === 'E') return errorFields(body)['C']
    if (type === 'Z') return `Z${body.toString('latin1')}`
    if (type === 'C') return body.toString('latin1', 0, body.length - 1)
    return type
  })
  return words.join(' ')
}

export const HINT = '/* pgsteer: primary */ '
export const textOf = (body: Buffer): string => body.toString('latin1', 0, body.length - 1)

type Protocol = 'simple' | 'extended'

export function says(protocol: Protocol, sql: string): Buffer {
  if (protocol === 'simple') return frontend.query(sql)
  const prepared = [frontend.parse('', sql), frontend.bind(), frontend.describe('P')]
  return Buffer.concat([...prepared, frontend.execute(), frontend.sync()])
}

/** A client that has sent these, each answered but the last. */
export async function flight(role: Role, protocol: Protocol, texts: readonly string[]) {
  const world = new SessionWorld(routedIni('default_pool_size = 1'))
  world.world.pools.setTopology(topology())
  const client = world.client()
  const hint = role === 'replica' ? '/* pgsteer: replica */ ' : '/* pgsteer: primary */ '
  for (const [index, sql] of texts.entries()) {
    const isLast = index === texts.length - 1
    client.sends(isLast ? says(protocol, hint + sql) : frontend.query(hint + sql))
    await world.settle()
    if (!isLast && client.session.server !== null) {
      const { server } = client
      while (server.ledger.head !== undefined) {
        const status = sql === 'ROLLBACK' ? 'I' : 'T'
        server.onBytes(Buffer.concat([backend.commandComplete('X'), backend.readyForQuery(status)]))
      }
    }
  }
  client.take()
  return { world, client, server: client.server }
}

export const BEGUN = ['BEGIN READ WRITE', 'SELECT 1']
