import { describe, expect, it } from 'vitest'
import type { ConsoleResult } from '../../../src/admin/commands.ts'
import { type ConsoleOptions, ConsoleSession, INPUT_BYTES_MAX } from '../../../src/admin/console.ts'
import { ProxyError } from '../../../src/base/errors.ts'
import { errorFields, frames, frontend } from '../../support/bytes.ts'
import { FakeClock } from '../../support/clock.ts'

/** A session on a channel that notes what is done to it. */
function open(some: Partial<ConsoleOptions> = {}): {
  readonly session: ConsoleSession
  readonly clock: FakeClock
  readonly events: string[]
  /** Settles the command under way. */
  readonly answer: (result: ConsoleResult) => Promise<void>
  /** From the next write on the client reads too slowly. */
  readonly clog: () => void
} {
  const events: string[] = []
  const held: ((result: ConsoleResult) => void)[] = []
  let isClogged = false
  const clock = new FakeClock()
  const session = new ConsoleSession({
    ...some,
    role: 'admin',
    codes: 'postgres',
    clock,
    execute: (sql) => {
      events.push(`run ${sql.slice(0, 20)}`)
      return new Promise((resolve) => {
        held.push(resolve)
      })
    },
    onClosed: () => events.push('closed'),
    channel: {
      write(bytes) {
        events.push(
          ...frames(bytes).frames.map(({ type, body }) => type + (errorFields(body)['C'] ?? '')),
        )
        return !isClogged
      },
      pause: () => events.push('pause'),
      resume: () => events.push('resume'),
      close: () => events.push('close'),
      destroy: () => events.push('destroy'),
    },
  })
  const answer = async (result: ConsoleResult): Promise<void> => {
    held.shift()?.(result)
    await Promise.resolve()
    await Promise.resolve()
  }
  return {
    session,
    clock,
    events,
    answer,
    clog: () => {
      isClogged = true
    },
  }
}

const EMPTY: ConsoleResult = { kind: 'empty' }

describe('what a client sends while a command is under way', () => {
  it('is not read any more beyond the bound, and again when there is room', async () => {
    const { session, events, answer } = open()
    session.onBytes(frontend.query('pause'))
    const more = frontend.query('x'.repeat(30_000))
    for (let bytes = 0; bytes < INPUT_BYTES_MAX; bytes += more.length) session.onBytes(more)
    expect(events).toEqual(['run pause', 'pause'])
    await answer(EMPTY)
    expect(events.slice(2)).toEqual(['I', 'Z', `run ${'x'.repeat(20)}`, 'resume'])
  })
})

it('a client that does not read gets no more answers until it does', async () => {
  const { session, events, answer, clog } = open()
  session.onBytes(Buffer.concat([frontend.query('one'), frontend.query('two')]))
  clog()
  await answer(EMPTY)
  expect(events).toEqual(['run one', 'I', 'Z'])
  session.onDrain()
  expect(events.at(-1)).toBe('run two')
})

it('is a row of SHOW CLIENTS when it has an identity', () => {
  const identity = {
    id: 9,
    user: 'admin',
    address: '10.0.0.9',
    port: 50_000,
    localAddress: '10.0.0.1',
    localPort: 6432,
    connectedWallMs: 1,
    tls: '',
    applicationName: 'psql',
  }
  const { session } = open({ identity })
  session.onBytes(frontend.parse('a', 'show pools'))
  expect(session.facts()).toMatchObject({
    ...identity,
    database: 'pgbouncer',
    state: 'idle',
    preparedStatements: 1,
  })
  session.onBytes(frontend.query('pause'))
  expect(session.facts()?.state).toBe('active')
  expect(open().session.facts()).toBeNull()
})

describe('the end', () => {
  it('said by us gives the reason and is enforced', () => {
    const { session, clock, events } = open()
    session.end(new ProxyError('shutting_down'))
    expect(events).toEqual(['E57P01', 'close'])
    clock.advance(60_000)
    expect(events.at(-1)).toBe('destroy')
  })

  it('leaves no timer behind when the client closes too', () => {
    const { session, clock, events } = open()
    session.onBytes(frontend.terminate())
    session.onClosed(null)
    expect(events).toEqual(['close', 'closed'])
    expect(clock.timers).toBe(0)
  })

  it('makes everything that comes later void', async () => {
    const { session, events, answer } = open()
    session.onBytes(frontend.query('pause'))
    session.onClosed(null)
    await answer(EMPTY)
    session.onBytes(frontend.query('show version'))
    session.onDrain()
    session.cancel()
    session.end(new ProxyError('shutting_down'))
    expect(events).toEqual(['run pause', 'closed'])
  })
})
