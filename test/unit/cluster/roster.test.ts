import { describe, expect, test } from 'vitest'
import type { Address } from '../../../src/cluster/address.ts'
import type { openDirect } from '../../../src/cluster/direct.ts'
import { Roster } from '../../../src/cluster/roster.ts'
import { FakeClock } from '../../support/clock.ts'
import { flush } from '../../support/pools.ts'

const ACCESS = {
  user: 'pgsteer',
  password: '',
  database: 'postgres',
  timeoutMs: 1000,
  tls: { mode: 'disable' },
} as const
const ADDRESS: Address = { host: '10.0.0.1', port: 5432 }
const MEMBER = {
  name: 'pg1',
  addresses: [ADDRESS],
  proxy: null,
  restUrl: null,
  state: 'running',
  tags: {},
}

/** A member whose answers the test decides on. */
class Played {
  readonly clock = new FakeClock()
  /** What `pg_postmaster_start_time()` says; null: it hangs; 'refused': nobody listens. */
  started: string | null = '1000'
  readonly roster: Roster

  constructor() {
    const open = ((address: Address) => ({
      address,
      lost: null,
      drop: () => {},
      client: {
        once: () => {},
        connect: () => Promise.resolve(),
        query: () => this.#answer(),
      },
    })) as unknown as typeof openDirect
    const events = { heard: () => {}, changed: () => {} }
    this.roster = new Roster(ACCESS, events, { clock: this.clock, open })
    this.roster.update([MEMBER], () => true)
  }

  get cutBeforeMs(): number | null | undefined {
    return this.roster.entry('pg1')?.cutBeforeMs
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 100) {
      this.clock.advance(Math.min(left, 100))
      await flush()
      await flush()
    }
  }

  #answer(): Promise<unknown> {
    if (this.started === null) return new Promise(() => {})
    if (this.started === 'refused')
      return Promise.reject(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }))
    const row = { in_recovery: 't', system_identifier: '7', started: this.started }
    return Promise.resolve({ rows: [row] })
  }
}

describe('what hangs on a member', () => {
  test('is cut off after two questions without an answer, and not again while it stays silent', async () => {
    const played = new Played()
    await played.pass(2000)
    expect(played.cutBeforeMs).toBeNull()
    const frozenMs = played.clock.nowMs()
    played.started = null
    await played.pass(1500)
    expect(played.cutBeforeMs).toBeNull()
    await played.pass(1500)
    const cutMs = played.cutBeforeMs ?? 0
    expect(cutMs).toBeGreaterThanOrEqual(frozenMs + 2 * ACCESS.timeoutMs)
    await played.pass(10_000)
    expect(played.cutBeforeMs).toBe(cutMs)
  })

  test('is left alone by one late answer, again and again', async () => {
    const played = new Played()
    await played.pass(1000)
    for (let turn = 0; turn < 3; turn += 1) {
      played.started = null
      await played.pass(600)
      played.started = '1000'
      await played.pass(1500)
    }
    expect(played.cutBeforeMs).toBeNull()
  })

  test('is left alone by a refusal, and cut off when the member was started again', async () => {
    const played = new Played()
    await played.pass(2000)
    const before = played.roster.entry('pg1')?.testimony.sample?.receivedMs
    played.started = 'refused'
    await played.pass(10_000)
    expect(played.cutBeforeMs).toBeNull()
    played.started = '2000'
    await played.pass(1000)
    expect(played.cutBeforeMs).toBe(before)
  })
})
