/** The watcher as a whole, in the sequences of Patroni that no event of the leader key announces. */
import { describe, expect, test } from 'vitest'
import { Stage, TTL_MS } from './stage.ts'

const OTHER = '7000000000000000042'
const HISTORY = [
  [3, 100, 'no recovery target specified'],
  [4, 200, 'no recovery target specified'],
]

describe('under an unchanged leader key', () => {
  test('a restart in place is felt at once, and serves in the same term when it is over', async () => {
    const stage = await Stage.serving()
    stage.member('a').does = 'refuse'
    await stage.passHealthy(600)
    expect(stage.topology).toMatchObject({ primary: null, term: 1 })
    expect(stage.topology.missing).toContain('a leads but does not serve')
    Object.assign(stage.member('a'), { does: 'answer', started: '2' })
    await stage.passHealthy(60)
    expect(stage.topology).toMatchObject({ primary: 'a', term: 1, timeline: 5 })
  })

  test('a demotion and a promotion on the next timeline are a new term', async () => {
    const stage = await Stage.serving()
    stage.member('a').isInRecovery = true
    await stage.passHealthy(600)
    expect(stage.topology).toMatchObject({ primary: null, term: 1 })
    expect(stage.topology.missing).toBe('a leads but is still in recovery')
    Object.assign(stage.member('a'), { isInRecovery: false, timeline: 6 })
    await stage.passHealthy(60)
    expect(stage.topology).toMatchObject({ primary: 'a', term: 2, timeline: 6 })
  })

  test('a primary that hangs is given up after two deadlines, and what hangs on it is cut off', async () => {
    const stage = await Stage.serving()
    stage.member('a').does = 'hang'
    await stage.passHealthy(3600)
    expect(stage.topology.primary).toBeNull()
    const hung = stage.topology.members.find((member) => member.name === 'a')
    expect(hung?.cutBeforeMs).not.toBeNull()
    stage.member('a').does = 'answer'
    await stage.passHealthy(2000)
    expect(stage.topology).toMatchObject({ primary: 'a', term: 1 })
  })
})

describe('in pause', () => {
  test('the primary serves on when its key expires, also for the next control process', async () => {
    const stage = await Stage.serving({ pause: true })
    stage.expire()
    await stage.pass(TTL_MS * 2)
    expect(stage.state).toBe('unlocked')
    expect(stage.topology).toMatchObject({ primary: 'a', term: 1 })
    const previous = stage.topology
    const from = stage.seen.length
    await stage.watcher.stop()
    // What is listed nowhere has no address: its Patroni has to be there.
    stage.list('a')
    const next = stage.watch({ previous })
    await next.start()
    await stage.pass(5000)
    expect(next.facts().state).toBe('unlocked')
    expect(stage.seen.slice(from).every(({ primary, term }) => primary === 'a' && term === 1)).toBe(
      true,
    )
    await next.stop()
  })

  test('the key of another member counts, whoever claims beside it', async () => {
    const stage = await Stage.serving({ pause: true })
    Object.assign(stage.member('b'), { isInRecovery: false, timeline: 6 })
    await stage.pass(1000)
    const second = stage.topology.members.find((member) => member.name === 'b')
    expect(second?.ineligibleReason).toBe('not_in_recovery')
    expect(stage.topology.primary).toBe('a')
    stage.etcd.lead('b')
    await stage.pass(1000)
    expect(stage.topology).toMatchObject({ primary: 'b', timeline: 6 })
  })
})

test('a standby cluster names nobody and says so, from its start and after a demotion, until it is promoted', async () => {
  const stage = new Stage({ standby_cluster: { host: 'elsewhere' } })
  stage.etcd.lead('a')
  await stage.watcher.start()
  await stage.pass(1000)
  const standby = {
    primary: null,
    standbyCluster: true,
    missing: 'this is a standby cluster, nothing in it takes writes',
  }
  expect(stage.topology).toMatchObject(standby)
  stage.configure({})
  Object.assign(stage.member('a'), { isInRecovery: false, timeline: 6 })
  await stage.pass(1000)
  expect(stage.topology).toMatchObject({ primary: 'a', standbyCluster: false })
  stage.configure({ standby_cluster: { host: 'elsewhere' } })
  await stage.settle()
  expect(stage.topology).toMatchObject(standby)
})

describe('another cluster at the same place', () => {
  test('whose key initialize differs is believed though its timeline is older', async () => {
    const stage = await Stage.serving()
    for (const member of stage.members.values())
      Object.assign(member, { systemIdentifier: OTHER, timeline: 1 })
    await stage.pass(1000)
    expect(stage.topology.primary).toBeNull()
    expect(stage.topology.missing).toContain('belongs to another cluster')
    stage.etcd.put('initialize', OTHER)
    await stage.pass(500)
    expect(stage.topology).toMatchObject({ primary: 'a', timeline: 1, systemIdentifier: OTHER })
    expect(stage.topology.term).toBeGreaterThan(1)
    expect(stage.watcher.facts().forgets).toBe(1)
  })

  test('whose history does not continue the old one, as after a restored backup, is believed', async () => {
    const stage = await Stage.serving()
    stage.etcd.put('history', JSON.stringify(HISTORY))
    await stage.pass(100)
    stage.etcd.lead('b')
    Object.assign(stage.member('a'), { isInRecovery: true })
    Object.assign(stage.member('b'), { isInRecovery: false, timeline: 4 })
    await stage.pass(1000)
    expect(stage.topology.missing).toContain('must be on 6 or later')
    stage.etcd.put('history', JSON.stringify(HISTORY.slice(0, 1)))
    await stage.pass(500)
    expect(stage.topology).toMatchObject({ primary: 'b', timeline: 4 })
  })

  test('without its key initialize, while somebody bootstraps, changes nothing', async () => {
    const stage = await Stage.serving()
    stage.etcd.put('initialize', '')
    await stage.pass(1000)
    stage.etcd.delete('initialize')
    await stage.pass(1000)
    expect(stage.topology).toMatchObject({ primary: 'a', term: 1 })
    expect(stage.watcher.facts().forgets).toBe(0)
  })
})

test('RECONNECT forgets fences and timelines, and whoever fits now is believed', async () => {
  const stage = await Stage.serving()
  stage.etcd.lead('b')
  Object.assign(stage.member('a'), { isInRecovery: true })
  Object.assign(stage.member('b'), { isInRecovery: false, timeline: 4 })
  await stage.pass(1000)
  expect(stage.topology.primary).toBeNull()
  const { term } = stage.topology
  stage.watcher.forget()
  await stage.pass(500)
  expect(stage.topology).toMatchObject({ primary: 'b', timeline: 4 })
  expect(stage.topology.term).toBeGreaterThan(term)
})
