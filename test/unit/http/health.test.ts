import { describe, expect, it } from 'vitest'
import type { AdminState } from '../../../src/admin/facts.ts'
import { healthOf } from '../../../src/http/health.ts'
import { configFrom } from '../../support/config.ts'
import { member, snapshotOf, topology, workerFacts } from '../../support/facts.ts'

const state = (some: Partial<AdminState>): AdminState => ({ ...snapshotOf().state, ...some })

describe('ready', () => {
  it('with a primary and a replica', () => {
    expect(healthOf(snapshotOf())).toEqual({
      isReady: true,
      reasons: [],
      write: { can: true, reason: '' },
      read: { can: true, reason: '' },
      replica: { can: true, reason: '' },
      primary: 'pg1',
      replicas: ['pg2'],
    })
  })

  it('without a primary while a replica serves reads: writes wait here', () => {
    const lost = topology({ primary: null, missing: 'pg1 does not answer' })
    expect(healthOf(snapshotOf({ topology: lost }))).toMatchObject({
      isReady: true,
      write: { can: false, reason: 'no primary: pg1 does not answer' },
      read: { can: true },
    })
  })

  it('with a primary and no replica: it serves the reads too', () => {
    const alone = topology({ members: [member({ name: 'pg1', role: 'primary' })] })
    expect(healthOf(snapshotOf({ topology: alone }))).toMatchObject({
      isReady: true,
      read: { can: true },
      replica: { can: false, reason: 'there is no replica' },
    })
  })

  it('without a cluster, where servers are reached when clients ask', () => {
    const config = configFrom('[databases]\na = host=10.0.0.1\n[pgbouncer]\nauth_type = trust\n')
    const nothing = topology({ primary: null, members: [] })
    expect(healthOf(snapshotOf({ config, topology: nothing }))).toMatchObject({
      isReady: true,
      write: { can: true },
      replica: { can: true },
    })
  })

  it('in a standby cluster, for reads alone', () => {
    expect(healthOf(snapshotOf({ topology: topology({ standbyCluster: true }) }))).toMatchObject({
      isReady: true,
      write: { can: false, reason: 'this is a standby cluster, it takes no writes' },
    })
  })
})

describe('not ready', () => {
  it('without primary and replica, and says of each why', () => {
    const members = [
      member({ name: 'pg1', role: 'unknown', eligible: false, ineligibleReason: 'no_answer' }),
      member({ name: 'pg3', eligible: false, ineligibleReason: 'lag_bytes' }),
    ]
    const lost = topology({ primary: null, missing: 'nobody answers', members })
    expect(healthOf(snapshotOf({ topology: lost }))).toMatchObject({
      isReady: false,
      reasons: ['no primary: nobody answers'],
      replica: {
        can: false,
        reason: 'no replica may serve reads (pg1: no_answer, pg3: lag_bytes)',
      },
    })
  })

  it.each([
    ['while it shuts down', { shutdown: 'wait_for_clients' }, 'pgsteer is shutting down'],
    ['while it is paused', { isPaused: true }, 'paused by an operator (PAUSE), RESUME ends it'],
  ] as const)('%s', (_, some, reason) => {
    expect(healthOf(snapshotOf({ state: state(some) }))).toMatchObject({
      isReady: false,
      reasons: [reason],
      replica: { can: false },
    })
  })

  it('without a worker that answers and listens', () => {
    expect(healthOf(snapshotOf({ workers: [] })).reasons).toEqual(['no worker process answers'])
    const leaving = [workerFacts({ isShuttingDown: true })]
    expect(healthOf(snapshotOf({ workers: leaving })).reasons).toEqual(['pgsteer is shutting down'])
    const deaf = [workerFacts({ listeners: [] })]
    expect(healthOf(snapshotOf({ workers: deaf })).reasons).toEqual(['no worker listens'])
  })
})
