/**
 * The console as conversations of raw bytes: what a client sends, and every message it gets back.
 */

import type { AddressInfo } from 'node:net'
import { createServer, type Server } from 'node:net'
import { afterEach, describe, expect, it, test } from 'vitest'
import { type ConsoleResult, type ConsoleRole, runCommand } from '../../src/admin/commands.ts'
import {
  CONSOLE_PARAMETERS,
  ConsoleSession,
  INPUT_BYTES_MAX,
  MESSAGE_BYTES_MAX,
} from '../../src/admin/console.ts'
import { NAMES_MAX } from '../../src/admin/portals.ts'
import { systemClock } from '../../src/base/clock.ts'
import { Channel } from '../../src/net/channel.ts'
import { fakeActions } from '../support/actions.ts'
import { backend, frontend, message, raw } from '../support/bytes.ts'
import { type Answer, WireClient } from '../support/wire-client.ts'

const { cstring, int16, int32 } = raw

interface Console {
  readonly client: WireClient
  readonly session: ConsoleSession
  readonly commands: string[]
  /** Settles the command that waits; only with `hold`. */
  readonly answer: (result: ConsoleResult) => void
  readonly closed: Promise<Error | null>
}

let server: Server | undefined
afterEach(() => {
  server?.close()
})

/** A console client behind its log-in. With `hold`, commands wait for `answer`. */
async function open(
  options: { readonly role?: ConsoleRole; readonly hold?: boolean } = {},
): Promise<Console> {
  const { role = 'admin', hold = false } = options
  const commands: string[] = []
  const actions = fakeActions()
  const held: ((result: ConsoleResult) => void)[] = []
  const execute = (sql: string): Promise<ConsoleResult> => {
    commands.push(sql)
    if (!hold || sql.startsWith('RESUME')) return runCommand(sql, role, actions, 'pgbouncer')
    return new Promise((resolve) => {
      held.push(resolve)
    })
  }
  const listening = createServer()
  server = listening
  const closed = Promise.withResolvers<Error | null>()
  const session = new Promise<ConsoleSession>((resolve) => {
    listening.on('connection', (socket) => {
      const channel = new Channel(socket)
      const made = new ConsoleSession({
        channel,
        role,
        codes: 'pgbouncer',
        clock: systemClock,
        execute,
        onClosed: closed.resolve,
      })
      channel.attach(made)
      resolve(made)
    })
  })
  await new Promise<void>((resolve) => {
    listening.listen(0, '127.0.0.1', resolve)
  })
  const { port } = listening.address() as AddressInfo
  const client = await WireClient.connect({ port })
  return {
    client,
    session: await session,
    commands,
    answer: (result) => held.shift()?.(result),
    closed: closed.promise,
  }
}

const DONE: ConsoleResult = { kind: 'done', tag: 'PAUSE', notices: [] }

/** Rows as RowDescription and DataRow carry them. */
function columns(answer: Answer): { name: string; type: number; format: number }[] {
  const body = answer.frames.find((frame) => frame.type === 'T')?.body ?? Buffer.from([0, 0])
  const found = []
  let at = 2
  for (let index = 0; index < body.readInt16BE(0); index += 1) {
    const end = body.indexOf(0, at)
    const name = body.toString('utf8', at, end)
    found.push({ name, type: body.readInt32BE(end + 7), format: body.readInt16BE(end + 17) })
    at = end + 19
  }
  return found
}

/** The bytes of every value of the first row. */
function values(answer: Answer): (Buffer | null)[] {
  const body = answer.frames.find((frame) => frame.type === 'D')?.body ?? Buffer.from([0, 0])
  const found: (Buffer | null)[] = []
  let at = 2
  for (let index = 0; index < body.readInt16BE(0); index += 1) {
    const length = body.readInt32BE(at)
    found.push(length < 0 ? null : body.subarray(at + 4, at + 4 + length))
    at += 4 + Math.max(0, length)
  }
  return found
}

describe('the simple protocol', () => {
  it('answers rows, a tag and idle', async () => {
    const { client } = await open()
    const answer = await client.query('SHOW VERSION;')
    expect(answer.types).toBe('TDCZ')
    expect(answer.rows).toEqual([['PgBouncer 1.26.0 (pgsteer 0.1.0)']])
    expect(answer.tags).toEqual(['SHOW'])
    expect(answer.status).toBe('I')
    expect(columns(answer)).toEqual([{ name: 'version', type: 25, format: 0 }])
  })

  it('gives columns the types of PgBouncer', async () => {
    const { client } = await open()
    const types = columns(await client.query('show stats_totals')).map(({ type }) => type)
    expect(types).toEqual([25, ...Array.from({ length: 12 }, () => 1700)])
  })

  it('answers an error with severity, code and text, and goes on', async () => {
    const { client } = await open()
    const answer = await client.query('select 1')
    expect(answer.types).toBe('EZ')
    expect(answer.errors).toEqual([
      { S: 'ERROR', V: 'ERROR', C: '08P01', M: "invalid command 'select 1', use SHOW HELP;" },
    ])
    expect((await client.query('show state')).types).toBe('TDDDCZ')
  })

  it('answers an empty query as PostgreSQL does', async () => {
    const { client } = await open()
    expect((await client.query('')).types).toBe('IZ')
  })

  it('answers SHOW HELP as a notice', async () => {
    const { client } = await open()
    const answer = await client.query('show help')
    expect(answer.types).toBe('NCZ')
    expect(answer.notices[0]).toMatchObject({ S: 'NOTICE', C: '00000', M: 'Console usage' })
    expect(answer.notices[0]?.['D']).toContain('SHOW CLUSTER|MEMBERS')
  })

  it('passes the role on', async () => {
    const { client } = await open({ role: 'stats' })
    expect((await client.query('reload')).errors[0]?.['M']).toBe('admin access needed')
  })

  it('answers pipelined queries in order', async () => {
    const { client, commands } = await open()
    client.send(
      frontend.query('show state'),
      frontend.query('nonsense'),
      frontend.query('show version'),
    )
    expect((await client.ready()).types).toBe('TDDDCZ')
    expect((await client.ready()).types).toBe('EZ')
    expect((await client.ready()).types).toBe('TDCZ')
    expect(commands).toEqual(['show state', 'nonsense', 'show version'])
  })

  it('reads messages however they are cut', async () => {
    const { client } = await open()
    const bytes = Buffer.concat([frontend.query('show version'), frontend.query('show state')])
    for (const byte of bytes) client.send(Buffer.of(byte))
    expect((await client.ready()).types).toBe('TDCZ')
    expect((await client.ready()).types).toBe('TDDDCZ')
  })
})

describe('the extended protocol', () => {
  it('describes, executes and closes', async () => {
    const { client } = await open()
    client.send(
      frontend.parse('s', 'show state'),
      frontend.describe('S', 's'),
      frontend.bind({ portal: 'p', statement: 's' }),
      frontend.describe('P', 'p'),
      frontend.execute('p'),
      frontend.close('P', 'p'),
      frontend.close('S', 's'),
      frontend.sync(),
    )
    const answer = await client.ready()
    expect(answer.types).toBe('1tT2TDDDC33Z')
    expect(answer.tags).toEqual(['SHOW'])
    expect(answer.rows[0]).toEqual(['active', 'yes'])
  })

  it('describes what has no rows as no data', async () => {
    const { client } = await open()
    client.send(
      frontend.parse('', 'set extra_float_digits = 3'),
      frontend.bind(),
      frontend.describe('P'),
      frontend.execute(),
      frontend.sync(),
    )
    const answer = await client.ready()
    expect(answer.types).toBe('12nNCZ')
    expect(answer.notices[0]?.['M']).toBe('SET ignored')
    expect(answer.tags).toEqual(['SET'])
  })

  it('sends binary values to who asks for them', async () => {
    const { client } = await open()
    client.send(
      frontend.parse('', 'show stats_totals'),
      frontend.bind({ resultFormats: [1] }),
      frontend.describe('P'),
      frontend.execute(),
      frontend.sync(),
    )
    const answer = await client.ready()
    expect(columns(answer).every(({ format }) => format === 1)).toBe(true)
    const [database, , , queries, bytes, , , time] = values(answer)
    expect(database?.toString()).toBe('app')
    // numeric: digits, weight, sign, scale, then digits of base 10000
    expect(queries).toEqual(Buffer.concat([int16(1), int16(0), int16(0), int16(0), int16(10)]))
    expect(bytes).toEqual(Buffer.concat([int16(1), int16(0), int16(0), int16(0), int16(900)]))
    expect(time).toEqual(
      Buffer.concat([int16(2), int16(1), int16(0), int16(0), int16(2), int16(5500)]),
    )
  })

  it('sends int4, int8, bool and null in binary, column by column', async () => {
    const { client } = await open()
    const formats = Array.from({ length: 20 }, (_, index) => (index === 0 ? 0 : 1))
    client.send(
      frontend.parse('', 'show members'),
      frontend.bind({ resultFormats: formats }),
      frontend.describe('P'),
      frontend.execute(),
      frontend.sync(),
    )
    const answer = await client.ready()
    expect(columns(answer).map(({ format }) => format)).toEqual(formats)
    const row = values(answer)
    expect(row[0]?.toString()).toBe('pg1')
    expect(row[2]).toEqual(int32(5432))
    expect(row[6]).toEqual(Buffer.alloc(8))
    expect(row[8]).toEqual(Buffer.of(1))
    expect(row[9]).toBeNull()
  })

  it('hands rows out in portions', async () => {
    const { client, commands } = await open()
    client.send(
      frontend.parse('', 'show state'),
      frontend.bind(),
      frontend.execute('', 2),
      frontend.execute('', 2),
      frontend.sync(),
    )
    expect((await client.ready()).types).toBe('12DDsDCZ')
    expect(commands).toEqual(['show state'])
  })

  it('keeps named statements over Sync, and ends portals with it', async () => {
    const { client } = await open()
    client.send(
      frontend.parse('s', 'show version'),
      frontend.bind({ portal: 'p', statement: 's' }),
      frontend.sync(),
    )
    expect((await client.ready()).types).toBe('12Z')
    client.send(frontend.bind({ statement: 's' }), frontend.execute(), frontend.sync())
    expect((await client.ready()).types).toBe('2DCZ')
    client.send(frontend.execute('p'), frontend.sync())
    const answer = await client.ready()
    expect(answer.types).toBe('EZ')
    expect(answer.errors[0]).toMatchObject({ C: '34000', M: 'portal "p" does not exist' })
  })

  it('drops everything behind an error up to Sync', async () => {
    const { client, commands } = await open()
    client.send(
      frontend.parse('', 'select 1'),
      frontend.bind(),
      frontend.execute(),
      frontend.sync(),
      frontend.parse('', 'show version'),
      frontend.bind(),
      frontend.execute(),
      frontend.sync(),
    )
    expect((await client.ready()).types).toBe('EZ')
    expect((await client.ready()).types).toBe('12DCZ')
    expect(commands).toEqual(['show version'])
  })

  it('drops what follows a command that failed', async () => {
    const { client, commands } = await open()
    client.send(
      frontend.parse('', 'resume'),
      frontend.bind(),
      frontend.execute(),
      frontend.parse('', 'show version'),
      frontend.bind(),
      frontend.execute(),
      frontend.sync(),
    )
    const answer = await client.ready()
    expect(answer.types).toBe('12EZ')
    expect(answer.errors[0]?.['M']).toBe('pooler is not paused/suspended')
    expect(commands).toEqual(['resume'])
  })

  it('answers at Flush without a Sync', async () => {
    const { client } = await open()
    client.send(frontend.parse('', 'show version'), frontend.describe('S'), frontend.flush())
    expect((await client.until('T')).types).toBe('1tT')
    client.send(frontend.sync())
    expect((await client.ready()).types).toBe('Z')
  })

  it('refuses parameters with a sentence that says what to do', async () => {
    const { client } = await open()
    client.send(
      frontend.parse('', 'show version'),
      frontend.bind({ values: ['1'] }),
      frontend.sync(),
    )
    expect((await client.ready()).errors[0]).toMatchObject({
      C: '0A000',
      M: 'the console takes no parameters, write the value into the command',
    })
  })

  test.each([
    ['a statement that is not there', frontend.bind({ statement: 'x' }), '26000'],
    ['a portal that is not there', frontend.execute('x'), '34000'],
    [
      'a format that does not exist',
      Buffer.concat([frontend.parse('', 'show state'), frontend.bind({ resultFormats: [7] })]),
      '08P01',
    ],
    [
      'formats for fewer columns',
      Buffer.concat([frontend.parse('', 'show pools'), frontend.bind({ resultFormats: [0, 1] })]),
      '08P01',
    ],
    [
      'a name that is taken',
      Buffer.concat([frontend.parse('a', 'show state'), frontend.parse('a', 'show state')]),
      '42P05',
    ],
    [
      'a portal that is open',
      Buffer.concat([
        frontend.parse('', 'show state'),
        frontend.bind({ portal: 'a' }),
        frontend.bind({ portal: 'a' }),
      ]),
      '42P03',
    ],
  ])('answers %s with an error and lives', async (_, bytes, sqlstate) => {
    const { client } = await open()
    client.send(bytes, frontend.sync())
    expect((await client.ready()).sqlstate).toBe(sqlstate)
    expect((await client.query('show version')).types).toBe('TDCZ')
  })

  it('bounds the number of prepared statements', async () => {
    const { client } = await open()
    for (let index = 0; index <= NAMES_MAX; index += 1)
      client.send(frontend.parse(`s${index}`, 'show state'))
    client.send(frontend.sync())
    expect((await client.ready()).sqlstate).toBe('53400')
    expect((await client.query('show version')).types).toBe('TDCZ')
  })

  it('mixes with the simple protocol', async () => {
    const { client } = await open()
    client.send(
      frontend.parse('s', 'show version'),
      frontend.query('show version'),
      frontend.bind({ statement: 's' }),
      frontend.execute(),
      frontend.sync(),
    )
    expect((await client.ready()).types).toBe('1TDCZ')
    expect((await client.ready()).types).toBe('2DCZ')
  })
})

describe('a command that waits', () => {
  it('holds back what was sent behind it', async () => {
    const { client, commands, answer } = await open({ hold: true })
    client.send(frontend.query('pause'), frontend.query('show version'))
    await expect.poll(() => commands).toEqual(['pause'])
    answer(DONE)
    expect((await client.ready()).tags).toEqual(['PAUSE'])
    await expect.poll(() => commands).toEqual(['pause', 'show version'])
  })

  it('is answered 57014 when it is cancelled, and a PAUSE is taken back', async () => {
    const { client, session, commands, answer } = await open({ hold: true })
    client.send(frontend.query('pause "my db"'))
    await expect.poll(() => commands).toHaveLength(1)
    session.cancel()
    const cancelled = await client.ready()
    expect(cancelled.types).toBe('EZ')
    expect(cancelled.sqlstate).toBe('57014')
    expect(commands).toEqual(['pause "my db"', 'RESUME "my db"'])
    answer(DONE)
    client.send(frontend.parse('', 'show version'), frontend.describe('S'), frontend.sync())
    expect((await client.ready()).types).toBe('1tTZ')
  })

  it('cancelled in the extended protocol drops the rest up to Sync', async () => {
    const { client, session, commands } = await open({ hold: true })
    client.send(frontend.parse('', 'wait_close'), frontend.bind(), frontend.execute())
    await expect.poll(() => commands).toHaveLength(1)
    session.cancel()
    client.send(frontend.execute(), frontend.sync())
    expect((await client.ready()).types).toBe('12EZ')
    expect(commands).toEqual(['wait_close'])
  })

  it('does not hide that the client went away', async () => {
    const { client, commands, closed, answer } = await open({ hold: true })
    client.send(frontend.query('pause'))
    await expect.poll(() => commands).toHaveLength(1)
    client.destroy()
    await closed
    answer(DONE)
  })

  it('bounds what is sent meanwhile', async () => {
    const { client, commands, session, answer } = await open({ hold: true })
    client.send(frontend.query('pause'))
    await expect.poll(() => commands).toHaveLength(1)
    const flood = frontend.query('x'.repeat(60_000))
    let sent = 0
    while (client.socket.writableLength < 4 * INPUT_BYTES_MAX && sent < 400) {
      client.send(flood)
      sent += 1
    }
    expect(client.socket.writableLength).toBeGreaterThan(0)
    expect(session).toBeDefined()
    answer(DONE)
    expect((await client.ready()).tags).toEqual(['PAUSE'])
    client.destroy()
  })
})

describe('hostile bytes end the session with a reason', () => {
  test.each([
    ['a length under its own size', Buffer.concat([Buffer.from('Q'), int32(3)]), '08P01'],
    ['a negative length', Buffer.concat([Buffer.from('Q'), int32(-5)]), '08P01'],
    [
      'a message that is too long',
      Buffer.concat([Buffer.from('Q'), int32(MESSAGE_BYTES_MAX + 1)]),
      '54000',
    ],
    ['a type nobody knows', message('?', 'x'), '08P01'],
    ['a Query without its end', message('Q', 'show version'), '08P01'],
    ['a Query with more behind its end', message('Q', cstring('show version'), 'x'), '08P01'],
    ['a Parse that is cut', message('P', cstring('a'), 'show'), '08P01'],
    [
      'a Parse that claims types it has not',
      message('P', cstring('a'), cstring('show state'), int16(9)),
      '08P01',
    ],
    ['a Describe with more behind its end', message('D', 'S', cstring(''), 'x'), '08P01'],
    ['a Describe of nothing', message('D', 'X', cstring('')), '08P01'],
    ['an Execute without a count', message('E', cstring('')), '08P01'],
    ['a Close without a name', message('C', 'S'), '08P01'],
  ])('%s', async (_, bytes, sqlstate) => {
    const { client, closed, commands } = await open()
    client.send(bytes)
    const answer = await client.ready()
    expect(answer.types).toBe('E')
    expect(answer.sqlstate).toBe(sqlstate)
    expect(answer.errors[0]?.['S']).toBe('FATAL')
    await client.ended()
    await closed
    expect(commands).toEqual([])
  })

  it('refuses FunctionCall and ignores stray copy messages', async () => {
    const { client } = await open()
    client.send(frontend.copyData('x'), frontend.copyDone(), frontend.functionCall(1, []))
    const answer = await client.ready()
    expect(answer.types).toBe('EZ')
    expect(answer.sqlstate).toBe('0A000')
  })

  it('random messages never hang or crash it', async () => {
    const kinds = Array.from('QPBDECHSFdcf?p')
    for (let seed = 1; seed <= 40; seed += 1) {
      const { client, closed } = await open()
      let state = seed
      const random = (below: number): number => {
        state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
        return (state >>> 8) % below
      }
      for (let index = 0; index < 20; index += 1) {
        const body = Buffer.from(Array.from({ length: random(12) }, () => random(256)))
        client.send(message(kinds[random(kinds.length)] ?? 'Q', body))
      }
      client.send(frontend.sync(), frontend.terminate())
      await client.ended()
      await closed
      server?.close()
    }
  })
})

it('Terminate ends the session without a word', async () => {
  const { client, closed } = await open()
  client.send(frontend.terminate())
  expect(await client.next()).toBeUndefined()
  expect(await closed).toBeNull()
})

it('a rejected command is an error, not the end', async () => {
  const { client, session } = await open()
  expect(session).toBeDefined()
  expect((await client.query('set nothing = 1')).errors[0]).toMatchObject({
    M: 'SET failed',
    D: 'nothing is not a setting',
  })
})

it('welcomes as PgBouncer does', () => {
  expect(
    [...CONSOLE_PARAMETERS].map(([name, value]) => backend.parameterStatus(name, value)),
  ).toHaveLength(7)
  expect(CONSOLE_PARAMETERS.get('server_version')).toBe('1.26.0/bouncer')
})
