import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { userName } from '../../../src/deploy/lock.ts'
import { FakeSwarm, removeFolders } from './swarm.ts'

afterAll(removeFolders)

const IMAGES = ['--set', 'NODE_IMAGE=node:1', '--set', 'PGSTEER_IMAGE=pgsteer:1']

/** A cluster that somebody else's `upgrade` is changing. */
async function held(labels: Record<string, string> = {}): Promise<FakeSwarm> {
  const swarm = new FakeSwarm()
  await swarm.cluster('init', 'main', ...IMAGES)
  swarm.configs.set('main.lock', {
    'pgsteer.lock.user': 'anna',
    'pgsteer.lock.host': 'laptop',
    'pgsteer.lock.process': '4711',
    'pgsteer.lock.command': 'upgrade',
    'pgsteer.lock.since': '2026-11-23T14:05:00.000Z',
    ...labels,
  })
  return swarm
}

test.each([
  ['init'],
  ['up'],
  ['switchover'],
  ['add-member', 'd'],
  ['remove-member', 'patroni3'],
  ['replace-node', 'a', 'd'],
  ['rotate-certs'],
  ['upgrade'],
  ['restore', '--yes'],
  ['apply-config', '--yes'],
  ['down'],
])('%s stops while somebody else changes the cluster, and says who', async (...args) => {
  const swarm = await held()
  expect(await swarm.cluster(...args)).toBe(1)
  expect(swarm.text).toContain('`upgrade` of anna@laptop (process 4711), since 2026-11-23T14:05')
  expect(swarm.text).toContain('--break-lock')
  expect(swarm.changes).toEqual([])
  expect(swarm.jobs).toEqual([])
  expect(swarm.configs.has('main.lock')).toBe(true)
})

test.each([['status'], ['render'], ['switchover', '--dry-run']])(
  '%s needs no lock and takes none',
  async (...args) => {
    const swarm = await held()
    expect(await swarm.cluster(...args)).toBe(0)
    expect(swarm.configs.has('main.lock')).toBe(true)
  },
)

test('the lock is taken before the first change and given back at the end, and after an error', async () => {
  const swarm = new FakeSwarm()
  expect(await swarm.cluster('init', 'main', ...IMAGES)).toBe(0)
  expect(await swarm.cluster('up')).toBe(0)
  expect(swarm.commands[0]).toMatch(/^config create .*pgsteer\.lock\.command=up .*main\.lock -$/)
  expect(swarm.commands.at(-1)).toBe('config rm id-main.lock')
  swarm.down.add('a')
  expect(await swarm.cluster('up')).toBe(1)
  expect(swarm.text).toContain('a is down')
  expect(swarm.configs.has('main.lock')).toBe(false)
})

test('a lock that nobody has any more is broken by the word --break-lock', async () => {
  const swarm = await held()
  expect(await swarm.cluster('up', '--break-lock')).toBe(0)
  expect(swarm.text).toContain('warning: breaking the lock of `upgrade` of anna@laptop')
  expect(swarm.configs.has('main.lock')).toBe(false)
})

const dead = (): string => String(spawnSync('true').pid)

test('what a dead process of this folder left is broken without asking', async () => {
  const swarm = await held({ 'pgsteer.lock.host': hostname(), 'pgsteer.lock.process': dead() })
  writeFileSync(join(swarm.folder, 'cluster/lock'), 'id-main.lock')
  expect(await swarm.cluster('up')).toBe(0)
})

test.each([
  ['its process lives', { 'pgsteer.lock.process': String(process.pid) }, 'id-main.lock'],
  ['it is of another folder', {}, 'id-other'],
  ['it is of another machine', { 'pgsteer.lock.host': 'laptop' }, 'id-main.lock'],
])('a lock is not broken without asking: %s', async (_, labels, id) => {
  const host = { 'pgsteer.lock.host': hostname(), 'pgsteer.lock.process': dead() }
  const swarm = await held({ ...host, ...labels })
  writeFileSync(join(swarm.folder, 'cluster/lock'), id)
  expect(await swarm.cluster('up')).toBe(1)
})

test('--break-lock is about one lock: not about that of somebody who came in between', async () => {
  const swarm = await held()
  let attempts = 0
  swarm.failing = (command) => {
    if (command.startsWith('config create') && (attempts += 1) === 2)
      swarm.configs.set('main.lock', { 'pgsteer.lock.user': 'bob' })
    return false
  }
  expect(await swarm.cluster('up', '--break-lock')).toBe(1)
  expect(swarm.text).toContain('of bob@')
  expect(swarm.changes).toEqual([])
  expect(swarm.configs.get('main.lock')?.['pgsteer.lock.user']).toBe('bob')
})

/** What Node does where a uid has no entry in passwd. */
function nameless(): string {
  throw new Error('uv_os_get_passwd returned ENOENT')
}

test('who has no name on this system holds the lock by number', () => {
  expect(userName(nameless)).toBe(String(process.getuid?.()))
})
