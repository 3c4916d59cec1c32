import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { FakeSwarm, removeFolders } from './swarm.ts'

afterAll(removeFolders)

const IMAGES = ['--set', 'NODE_IMAGE=node:1', '--set', 'PGSTEER_IMAGE=pgsteer:1']

/** A cluster on three of four nodes. */
async function deployed(...set: readonly string[]): Promise<FakeSwarm> {
  const swarm = new FakeSwarm({ nodes: ['a', 'b', 'c', 'd'] })
  const settings = set.flatMap((one) => ['--set', one])
  expect(await swarm.cluster('init', 'main', ...IMAGES, ...settings)).toBe(0)
  expect(await swarm.cluster('up')).toBe(0)
  return swarm
}

const etcdCalls = (swarm: FakeSwarm): string[] =>
  swarm.jobs.flatMap((job) => /member\/(\w+)$/.exec(job.at(-1) ?? '')?.[1] ?? [])

test.each<[string, string[], (swarm: FakeSwarm) => void, string]>([
  ['the new node has a member', ['a', 'b'], () => undefined, 'gives a node two members'],
  [
    'both are one node, which has its data',
    ['a', 'id-a'],
    (swarm) => swarm.volumes.set('a', new Set(['main_etcd1', 'main_pg1'])),
    'a has volumes of an earlier time: main_etcd1',
  ],
  ['the new node has one by its id', ['a', 'id-b'], () => undefined, 'has a member already'],
  ['there is no such node', ['a', 'e'], () => undefined, 'the Swarm has no node e'],
  ['the new node is down', ['a', 'd'], (swarm) => swarm.down.add('d'), 'd is down'],
  ['another etcd is ill', ['a', 'd'], (swarm) => swarm.ill.add('etcd2'), 'which is no majority'],
  [
    'the new node has data of an earlier time',
    ['a', 'd'],
    (swarm) => swarm.volumes.set('d', new Set(['main_etcd1'])),
    'd has volumes of an earlier time: main_etcd1',
  ],
])('replace-node changes nothing when %s', async (_, nodes, prepare, message) => {
  const swarm = await deployed()
  const before = swarm.file('cluster.env')
  prepare(swarm)
  expect(await swarm.cluster('replace-node', ...nodes)).toBe(1)
  expect(swarm.text).toContain(message)
  expect(swarm.changes).toEqual([])
  expect(swarm.leader).toBe('patroni1')
  expect(etcdCalls(swarm).filter((what) => what !== 'list')).toEqual([])
  expect(swarm.file('cluster.env')).toBe(before)
})

test('replace-node --volumes removes what the new node has of an earlier member, and nothing else', async () => {
  const swarm = await deployed()
  swarm.volumes.set('d', new Set(['main_etcd1', 'main_pg1', 'main_pg2', 'other']))
  swarm.volumes.set('b', new Set(['main_etcd1']))
  expect(await swarm.cluster('replace-node', 'a', 'd', '--volumes')).toBe(0)
  expect([...(swarm.volumes.get('d') ?? [])]).toEqual(['main_pg2', 'other'])
  expect(swarm.volumes.get('b')?.size).toBe(1)
})

test('the old member of etcd is stopped before its label moves, and starts with the new settings', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('replace-node', 'a', 'd')).toBe(0)
  const [stop, moved, start] = [
    'service scale --detach main_etcd1=0',
    'node update',
    'stack deploy',
  ].map((text) => swarm.changes.findIndex((one) => one.startsWith(text)))
  expect(stop).toBe(0)
  expect(moved).toBeGreaterThan(stop ?? 0)
  expect(start).toBeGreaterThan(moved ?? 0)
})

test.each([
  'service scale',
  'member/remove',
  'member/add',
  'config rm',
  'node update',
  'stack deploy',
])(
  'replace-node that is killed after its first %s goes on when it is run again',
  async (command) => {
    const swarm = await deployed()
    swarm.killing = (text) => text.includes(command)
    await expect(swarm.cluster('replace-node', 'a', 'd')).rejects.toThrow('killed')
    expect(await swarm.cluster('replace-node', 'a', 'd', '--break-lock')).toBe(0)
    const expected = swarm.etcd.filter(({ peerURLs }) => peerURLs.includes('https://etcd1:2380'))
    expect(expected).toHaveLength(1)
    expect(expected[0]?.name).toBe('')
    expect(swarm.labels.get('d')?.get('etcd.slot')).toBe('1')
    expect(swarm.labels.get('d')?.get('pg.slot')).toBe('1')
    expect(swarm.labels.get('a')?.size).toBe(0)
  },
)

test('a node is the same by its hostname and by its id', async () => {
  const swarm = await deployed('PG_NODES=1:id-a,2:b,3:id-c')
  expect(await swarm.cluster('add-member', 'c')).toBe(0)
  expect(swarm.text).toContain('c has a member already')
  expect(await swarm.cluster('replace-node', 'a', 'd')).toBe(0)
  expect(swarm.file('cluster.env')).toContain('PG_NODES=1:d,2:b,3:id-c')
  expect(swarm.file('cluster.env')).toContain('ETCD_NODES=1:d,2:b,3:c')
})

test('one node with two members, by two names, is refused before any label', async () => {
  const swarm = new FakeSwarm()
  const twice = ['--set', 'PG_NODES=1:a,2:id-a,3:c']
  expect(await swarm.cluster('init', 'main', ...IMAGES, ...twice)).toBe(1)
  expect(swarm.text).toContain('PG_NODES: id-a is a node that has a member already')
  expect(swarm.changes).toEqual([])
})

test('remove-member that failed is run again to its end, with the data that it was asked to remove', async () => {
  const swarm = await deployed()
  swarm.volumes.set('c', new Set(['main_pg3', 'main_etcd3']))
  swarm.failing = (command) => command.startsWith('stack deploy')
  expect(await swarm.cluster('remove-member', 'patroni3', '--volumes')).toBe(1)
  expect([...(swarm.volumes.get('c') ?? [])]).toContain('main_pg3')
  expect(await swarm.cluster('remove-member', 'patroni3', '--volumes')).toBe(0)
  expect(swarm.file('deployed', 'stack.yml')).not.toContain('patroni3')
  expect([...(swarm.volumes.get('c') ?? [])]).toEqual(['main_etcd3'])
  expect(await swarm.cluster('remove-member', 'etcd3')).toBe(1)
  expect(swarm.text).toContain('There are patroni1, patroni2.')
})

test('other members of etcd than those that run are refused: nobody would have told etcd', async () => {
  const swarm = new FakeSwarm({ nodes: ['a', 'b', 'c', 'd', 'e'] })
  await swarm.cluster('init', 'main', ...IMAGES)
  await swarm.cluster('up')
  const five = ['--set', 'ETCD_NODES=1:a,2:b,3:c,4:d,5:e']
  await swarm.cluster('init', ...five)
  expect(await swarm.cluster('up')).toBe(1)
  expect(swarm.text).toContain('etcd1, etcd2, etcd3 run')
  expect(swarm.changes).toEqual([])
  await swarm.cluster('down')
  expect(await swarm.cluster('up')).toBe(0)
  expect(swarm.services.has('main_etcd5')).toBe(true)
})

test('a wrong value is never written into cluster.env', async () => {
  const swarm = await deployed()
  const before = swarm.file('cluster.env')
  expect(await swarm.cluster('upgrade', '--node-image=two words')).toBe(1)
  expect(swarm.file('cluster.env')).toBe(before)
})

test('down --volumes names the nodes that were down and keep theirs, and lets etcd begin anew', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('replace-node', 'a', 'd')).toBe(0)
  expect(swarm.file('cluster.env')).toContain('ETCD1_STATE=existing')
  for (const node of ['b', 'd']) swarm.volumes.set(node, new Set(['main_etcd1', 'main_pg1']))
  swarm.down.add('b')
  expect(await swarm.cluster('down', '--volumes', '--yes-remove=main')).toBe(0)
  expect(swarm.text).toMatch(/warning: b is down .*docker volume rm .*main_etcd1/)
  expect(swarm.text).toContain('Left are the volumes on b, which did not answer')
  expect(swarm.text).not.toContain('is gone')
  expect(swarm.volumes.get('b')?.size).toBe(2)
  expect(swarm.volumes.get('d')?.size).toBe(0)
  expect(swarm.file('cluster.env')).toContain('ETCD1_STATE=new')
})

test('down --volumes that cannot tell which volumes there are removes nothing', async () => {
  const swarm = await deployed()
  rmSync(join(swarm.folder, 'cluster/rendered'), { recursive: true })
  expect(await swarm.cluster('down', '--volumes', '--yes-remove=main')).toBe(1)
  expect(swarm.text).toContain('Run `render` first')
  expect(swarm.stacks.has('main')).toBe(true)
  expect(await swarm.cluster('render')).toBe(0)
  expect(await swarm.cluster('down', '--volumes', '--yes-remove=main')).toBe(0)
})

test('the new member of etcd does not wait for the copy of the database beside it, which may take hours', async () => {
  const swarm = await deployed()
  swarm.ill.add('patroni1')
  swarm.leader = 'patroni2'
  expect(await swarm.cluster('replace-node', 'a', 'd', '--wait=30')).toBe(1)
  expect(swarm.text).toContain('changing etcd1')
  expect(swarm.text).toContain('the cluster is not well after 30 s: patroni1')
  swarm.ill.delete('patroni1')
  expect(await swarm.cluster('replace-node', 'a', 'd')).toBe(0)
})

test.each([
  ['add-member', 'd', 'd'],
  ['remove-member', 'patroni1', 'b'],
])('%s %s changes nothing when the node %s, which it needs, is down', async (name, what, node) => {
  const swarm = await deployed()
  const before = swarm.file('cluster.env')
  swarm.down.add(node)
  expect(await swarm.cluster(name, what)).toBe(1)
  expect(swarm.text).toContain(`${node} is down`)
  expect(swarm.file('cluster.env')).toBe(before)
  expect(swarm.leader).toBe('patroni1')
})

test('replace-node with one node twice makes its member of etcd anew, and leaves the database alone', async () => {
  const swarm = await deployed()
  swarm.volumes.set('a', new Set(['main_etcd1', 'main_pg1']))
  expect(await swarm.cluster('replace-node', 'a', 'a', '--volumes')).toBe(0)
  expect([...(swarm.volumes.get('a') ?? [])]).toEqual(['main_pg1'])
  expect(swarm.changes[0]).toBe('service scale --detach main_etcd1=0')
  expect(etcdCalls(swarm)).toEqual(['list', 'remove', 'add'])
  expect(swarm.file('cluster.env')).toContain('ETCD1_STATE=existing')
  expect(swarm.file('cluster.env')).toContain('ETCD_NODES=1:a,2:b,3:c')
  expect(swarm.leader).toBe('patroni1')
  expect(swarm.text).toContain('changing etcd1')
})
