/** Settings on servers that are shared behind a pooler: what it carries, and what we make each time. */
import { describe, expect, test } from 'vitest'
import type { ProxyError } from '../../../src/base/errors.ts'
import { ServerConnection } from '../../../src/server/connection.ts'
import {
  configStatement,
  localPart,
  localStatement,
  NO_SETTINGS,
  pooledPart,
  setStatement,
  withSetting,
} from '../../../src/server/settings.ts'
import { backend, frames } from '../../support/bytes.ts'
import { FakeChannel } from '../../support/pools.ts'

/** Remembers the types of the messages that it was given. */
class TypesChannel extends FakeChannel {
  types = ''

  override write(bytes: Buffer): boolean {
    this.types += frames(bytes)
      .frames.map((one) => one.type)
      .join('')
    return true
  }
}

function settings(values: Readonly<Record<string, string>>) {
  return Object.entries(values).reduce(
    (all, [name, value]) => withSetting(all, name, setStatement(name, value)),
    NO_SETTINGS,
  )
}

test('what PgBouncer carries is set as anywhere else, the rest for one transaction', () => {
  const all = settings({ timezone: "'UTC'", search_path: 'a, b', datestyle: 'iso' })
  expect([...pooledPart(all).entries.keys()].toSorted()).toEqual(['datestyle', 'timezone'])
  expect(localPart(all)).toEqual(['SET LOCAL "search_path" TO a, b'])
})

test('nothing to make leaves equal settings equal', () => {
  expect(pooledPart(NO_SETTINGS)).toBe(NO_SETTINGS)
  expect(localPart(settings({ timezone: "'UTC'" }))).toEqual([])
})

test('the role comes last, after the session authorization', () => {
  const all = settings({ role: 'r', work_mem: '1', session_authorization: 's' })
  expect(localPart(all)).toEqual([
    'SET LOCAL "work_mem" TO 1',
    'SET LOCAL SESSION AUTHORIZATION s',
    'SET LOCAL ROLE r',
  ])
})

test('a value of the startup packet is local too, whatever it holds', () => {
  expect(localStatement(configStatement('a.b', "x', false)"))).toBe(
    "SELECT pg_catalog.set_config('a.b', 'x'', false)', true)",
  )
})

/** A server that was just given statements of ours. */
function begin(statements: readonly string[]) {
  const channel = new TypesChannel()
  const identity = {
    member: 'pg1',
    host: 'h',
    port: 1,
    database: 'd',
    user: 'u',
    role: 'primary',
    term: 1,
  } as const
  const seed = { parameters: new Map(), processId: 1, cancelSecret: Buffer.alloc(4), openedMs: 0 }
  const server = new ServerConnection({ id: 1, identity, channel, ...seed }, () => false)
  const outcomes: (ProxyError | null)[] = []
  server.runAhead(statements, (error) => outcomes.push(error))
  return { server, channel, outcomes }
}

describe('statements of ours ahead of a batch, in its transaction', () => {
  const BOUND = Buffer.concat([backend.parseComplete(), backend.bindComplete()])
  const DONE = Buffer.concat([BOUND, backend.commandComplete('SET')])

  test('are over when the last one is done, without a Sync', () => {
    const { server, channel, outcomes } = begin(['SET LOCAL a TO 1', 'SET LOCAL b TO 2'])
    expect(channel.types).toBe('PBEPBEH')
    server.onBytes(DONE)
    expect(outcomes).toEqual([])
    expect(server.isIdle).toBe(false)
    server.onBytes(DONE)
    expect(outcomes).toEqual([null])
    expect(channel.types).toBe('PBEPBEH')
  })

  test('that fail end their transaction before anybody is told', () => {
    const { server, channel, outcomes } = begin(['SET LOCAL a TO 1'])
    server.onBytes(Buffer.concat([backend.parseComplete(), backend.errorResponse('22023', 'no')]))
    expect(channel.types).toBe('PBEHS')
    expect(outcomes).toEqual([])
    server.onBytes(backend.readyForQuery('I'))
    expect(outcomes[0]).toMatchObject({ code: 'server_refused', sqlstate: '22023' })
    expect(server.isIdle).toBe(true)
  })
})
