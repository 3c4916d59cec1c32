import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { FakeSwarm, removeFolders } from './swarm.ts'

afterAll(removeFolders)

const IMAGES = ['--set', 'NODE_IMAGE=node:1', '--set', 'PGSTEER_IMAGE=pgsteer:1']

/** A Swarm with a folder, and its cluster deployed. */
async function deployed(): Promise<FakeSwarm> {
  const swarm = new FakeSwarm()
  expect(await swarm.cluster('init', 'main', ...IMAGES)).toBe(0)
  expect(await swarm.cluster('up')).toBe(0)
  return swarm
}

test('init labels the nodes, one slot each, and puts repository and monitoring on the last', async () => {
  const swarm = new FakeSwarm()
  expect(await swarm.cluster('init', 'main', ...IMAGES)).toBe(0)
  expect(Object.fromEntries(swarm.labels.get('a') ?? [])).toEqual({
    'pgsteer.cluster': 'main',
    'pg.slot': '1',
    'etcd.slot': '1',
  })
  expect(Object.fromEntries(swarm.labels.get('c') ?? [])).toEqual({
    'pgsteer.cluster': 'main',
    'pg.slot': '3',
    'etcd.slot': '3',
    pgbackrest: 'true',
    monitoring: 'true',
  })
})

test('init makes every external secret that the stack names, and the folder is for its owner alone', async () => {
  const swarm = await deployed()
  const stack = swarm.file('deployed', 'stack.yml')
  const named = [
    ...stack.matchAll(/name: (main_\w+_(?:crt|key|password|token|userlist|auth|secrets)_1)/g),
  ]
  expect(named.length).toBeGreaterThan(20)
  expect(named.map(([, name]) => name).filter((name = '') => !swarm.secrets.has(name))).toEqual([])
  expect(statSync(join(swarm.folder, 'cluster')).mode & 0o777).toBe(0o700)
  expect(statSync(join(swarm.folder, 'cluster/ca/ca.key')).mode & 0o777).toBe(0o600)
})

test('the key of the authority never leaves the folder, and no secret is ever said or in a command', async () => {
  const swarm = new FakeSwarm()
  await swarm.cluster('init', 'main', ...IMAGES)
  const commands = swarm.commands.join('\n') + swarm.text
  const texts = [...swarm.secrets.values()].map(({ text }) => text)
  expect(texts).not.toContain(swarm.file('ca', 'ca.key'))
  const passwords = readdirSync(join(swarm.folder, 'cluster/secrets/1'))
  expect(passwords.length).toBeGreaterThan(5)
  for (const name of passwords)
    expect(commands).not.toContain(swarm.file('secrets', '1', name).trim())
  expect(commands).not.toContain('PRIVATE KEY')
})

test('init again changes nothing', async () => {
  const swarm = new FakeSwarm()
  await swarm.cluster('init', 'main', ...IMAGES)
  const before = swarm.file('cluster.env')
  expect(await swarm.cluster('init')).toBe(0)
  expect(swarm.changes).toEqual([])
  expect(swarm.file('cluster.env')).toBe(before)
})

test('a dry run of init writes no file, changes nothing and says what it would do', async () => {
  const swarm = new FakeSwarm()
  expect(await swarm.cluster('init', 'main', '--dry-run', ...IMAGES)).toBe(0)
  expect(swarm.changes).toEqual([])
  expect(existsSync(join(swarm.folder, 'cluster'))).toBe(false)
  expect(swarm.text).toContain(
    'would run: docker node update --label-add pgsteer.cluster=main --label-add pg.slot=1',
  )
  expect(swarm.text).toContain('main_patroni1_key_1 -')
})

test('init without an image says which setting is missing and how to give it', async () => {
  const swarm = new FakeSwarm()
  expect(await swarm.cluster('init', 'main', '--set', 'PGSTEER_IMAGE=p:1')).toBe(1)
  expect(swarm.text).toContain('error: NODE_IMAGE not given')
  expect(swarm.text).toContain('--set NODE_IMAGE=')
  expect(swarm.changes).toEqual([])
})

test('a node that is down or too old stops init before any change', async () => {
  const swarm = new FakeSwarm()
  await swarm.cluster('init', 'main', ...IMAGES)
  swarm.down.add('b')
  expect(await swarm.cluster('up')).toBe(1)
  expect(swarm.text).toContain('b is down')
  expect(swarm.changes).toEqual([])
  const old = new FakeSwarm()
  old.engine = '19.03.1'
  expect(await old.cluster('init', 'main', ...IMAGES)).toBe(1)
  expect(old.text).toContain('Docker 19.03.1')
})

test('up deploys once, waits, and warns when nobody is told of alerts', async () => {
  const swarm = new FakeSwarm()
  await swarm.cluster('init', 'main', ...IMAGES)
  expect(await swarm.cluster('up')).toBe(0)
  expect(swarm.changes.map((one) => one.split(' ').slice(0, 2).join(' '))).toEqual(['stack deploy'])
  expect(swarm.jobs).toEqual([['facts', 'wait', '600']])
  expect(swarm.text).toContain('ALERT_RECEIVERS_FILE')
  expect(swarm.text).toContain('main is up.')
})

test('what is deployed has the modes of the stack file, 0400 being 256', async () => {
  const text = (await deployed()).file('deployed', 'stack.yml')
  expect(text).toMatch(/mode: 256$/m)
  expect(text).not.toMatch(/mode: (?:400|444|620)$/m)
})

test('ENCRYPTED=false takes the option out, since Docker encrypts whatever its value', async () => {
  const swarm = await deployed()
  expect(swarm.file('deployed', 'stack.yml')).toContain('encrypted: "true"')
  const other = new FakeSwarm()
  await other.cluster('init', 'main', ...IMAGES, '--set', 'ENCRYPTED=false')
  expect(await other.cluster('up')).toBe(0)
  expect(other.file('deployed', 'stack.yml')).not.toContain('encrypted')
})

test('up again, with nothing changed, takes no member down: one deploy of the same', async () => {
  const swarm = await deployed()
  const before = swarm.file('deployed', 'stack.yml')
  expect(await swarm.cluster('up')).toBe(0)
  expect(swarm.changes).toHaveLength(1)
  expect(swarm.file('deployed', 'stack.yml')).toBe(before)
})

test('a forgotten setting of a stack stops with its name before any change', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('up', 'monitoring')).toBe(1)
  expect(swarm.text).toMatch(/error: .*ALERT_RECEIVERS_FILE.* not set/)
  expect(swarm.changes).toEqual([])
})

test('a changed secret file is refused, since services have the old one', async () => {
  const swarm = await deployed()
  writeFileSync(join(swarm.folder, 'cluster/secrets/1/pgsteer_token'), 'another')
  expect(await swarm.cluster('up')).toBe(1)
  expect(swarm.text).toContain('main_pgsteer_token_1')
  expect(swarm.text).toContain('AUTH_EPOCH')
})

const changing = (swarm: FakeSwarm): string[] =>
  swarm.said.flatMap((text) => /^(?:changing|switching over).*/.exec(text)?.[0] ?? [])

test('rotate-certs takes one member after the other, the primary last and after a switchover', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('rotate-certs')).toBe(0)
  expect(changing(swarm)).toEqual([
    'changing etcd1',
    'changing etcd2',
    'changing etcd3',
    'changing patroni2',
    'changing patroni3',
    'switching over from patroni1 to patroni3',
    'changing patroni1',
    'changing pgbackrest, pgsteer',
  ])
  expect(swarm.leader).toBe('patroni3')
  expect(swarm.file('cluster.env')).toContain('CERT_EPOCH=2')
  const deploys = swarm.changes.filter((one) => one.startsWith('stack deploy'))
  expect(deploys).toHaveLength(7)
  // Between two deploys the cluster was well.
  expect(swarm.jobs.filter(([, what]) => what === 'wait').length).toBeGreaterThanOrEqual(7)
  expect([...swarm.secrets.keys()].filter((name) => name.endsWith('_crt_1'))).toEqual([])
})

test('the next member changes only when the one before runs anew and the cluster is well', async () => {
  const swarm = await deployed()
  swarm.started.length = 0
  expect(await swarm.cluster('rotate-certs')).toBe(0)
  const etcd = ['etcd1', 'etcd2', 'etcd3'].flatMap((name) => ['well', `main_${name}`])
  // Once more before the switchover, before all the rest, and at the end.
  const [one, two, three] = [1, 2, 3].map((slot) => [
    'well',
    `main_patroni${slot}`,
    `main_agent${slot}`,
  ])
  const order = [etcd, two, three, 'well', one, 'well', 'well'].flat()
  expect(swarm.started).toEqual(order)
})

test('a new authority goes in three rounds: trusted, signing, alone', async () => {
  const swarm = await deployed()
  const old = swarm.file('ca', 'ca.crt')
  expect(await swarm.cluster('rotate-certs', '--new-ca')).toBe(0)
  expect(swarm.text).toContain('give ca/both.crt to everybody who checks certificates')
  expect(await swarm.cluster('rotate-certs', '--new-ca')).toBe(0)
  const made = swarm.file('ca', 'ca.crt')
  expect(made).not.toBe(old)
  expect(swarm.file('certificates', '2', 'ca.crt')).toBe(old + made)
  expect(swarm.file('certificates', '3', 'ca.crt')).toBe(made + old)
  expect(swarm.file('certificates', '4', 'ca.crt')).toBe(made)
  expect(readdirSync(join(swarm.folder, 'cluster/ca')).toSorted()).toEqual(['ca.crt', 'ca.key'])
})

test('another image of the node goes to replicas first; one of pgsteer takes no member', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('upgrade', '--node-image=node:2')).toBe(0)
  expect(changing(swarm)[0]).toBe('changing patroni2')
  expect(changing(swarm).slice(-2)).toEqual(['changing patroni1', 'changing pgbackrest'])
  expect(await swarm.cluster('upgrade', '--pgsteer-image=pgsteer:2')).toBe(0)
  expect(changing(swarm)).toEqual(['changing pgsteer'])
  expect(swarm.file('deployed', 'stack.yml')).toContain('image: pgsteer:2')
})

test('a pgsteer that Docker took back is an error that says so', async () => {
  const swarm = await deployed()
  swarm.updateState = 'rollback_completed'
  expect(await swarm.cluster('upgrade', '--pgsteer-image=pgsteer:2')).toBe(1)
  expect(swarm.text).toContain('pgsteer was not changed: unhealthy (rollback_completed)')
})

test('a dry run of upgrade changes neither the Swarm nor cluster.env', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('upgrade', '--node-image=node:2', '--dry-run')).toBe(0)
  expect(swarm.changes).toEqual([])
  expect(swarm.file('cluster.env')).toContain('NODE_IMAGE=node:1')
  expect(swarm.leader).toBe('patroni1')
})

test('a switchover goes to the synchronous replica that lags least, or to the one that is named', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('switchover')).toBe(0)
  expect(swarm.leader).toBe('patroni3')
  expect(await swarm.cluster('switchover', 'patroni2')).toBe(0)
  expect(swarm.leader).toBe('patroni2')
  expect(await swarm.cluster('switchover', 'patroni2')).toBe(0)
  expect(swarm.text).toContain('patroni2 is the primary already')
  expect(await swarm.cluster('switchover', 'patroni9')).toBe(1)
  expect(swarm.text).toContain('There are patroni1, patroni2, patroni3.')
})

test('apply-config shows what differs, and sends it and nothing else when it is told to', async () => {
  const swarm = await deployed()
  const file = join(swarm.folder, 'patch.yml')
  writeFileSync(file, 'ttl: 30\nloop_wait: 5\npostgresql: {parameters: {max_connections: 300}}\n')
  expect(await swarm.cluster('apply-config', file)).toBe(0)
  expect(swarm.text).toContain('postgresql.parameters.max_connections: (none) -> 300')
  expect(swarm.text).toContain('Nothing was changed. With --yes this is applied.')
  expect(swarm.jobs.filter(([program]) => program === 'curl')).toEqual([])
  expect(await swarm.cluster('apply-config', file, '--yes')).toBe(0)
  const [, sent = []] = swarm.jobs
  expect(JSON.parse(sent[sent.indexOf('--data-binary') + 1] ?? '')).toEqual({
    loop_wait: 5,
    postgresql: { parameters: { max_connections: 300 } },
  })
  swarm.config = { ttl: 30, loop_wait: 5, postgresql: { parameters: { max_connections: 300 } } }
  expect(await swarm.cluster('apply-config', file, '--yes')).toBe(0)
  expect(swarm.text).toContain('nothing to do')
  expect(swarm.jobs).toHaveLength(1)
})

test('apply-config without a file says that tuned values go back, and takes none back unasked', async () => {
  const swarm = await deployed()
  swarm.config = { ttl: 60 }
  expect(await swarm.cluster('apply-config')).toBe(0)
  expect(swarm.text).toContain('ttl: 60 -> 30')
  expect(swarm.text).toContain('warning: what was changed by hand or by a file of yours goes back')
  expect(swarm.jobs.filter(([program]) => program === 'curl')).toEqual([])
})

test('apply-config reads a file as Patroni does: on is true there, and 0400 octal', async () => {
  const swarm = await deployed()
  swarm.config = { synchronous_mode: true, postgresql: { parameters: { log_file_mode: 256 } } }
  const file = join(swarm.folder, 'patch.yml')
  writeFileSync(file, 'synchronous_mode: on\npostgresql: {parameters: {log_file_mode: 0400}}\n')
  expect(await swarm.cluster('apply-config', file)).toBe(0)
  expect(swarm.text).toContain('nothing to do')
})

test('a member is added in the next slot without touching the others, and taken away again', async () => {
  const swarm = new FakeSwarm({ nodes: ['a', 'b', 'c', 'd'] })
  await swarm.cluster('init', 'main', ...IMAGES)
  await swarm.cluster('up')
  swarm.members.push('patroni4')
  expect(await swarm.cluster('add-member', 'd')).toBe(0)
  expect(changing(swarm)).toEqual(['changing pgbackrest'])
  expect(swarm.labels.get('d')?.get('pg.slot')).toBe('4')
  expect(swarm.secrets.has('main_patroni4_key_1')).toBe(true)
  expect(swarm.file('deployed', 'stack.yml')).toContain('pg4:/var/lib/postgresql')
  expect(await swarm.cluster('remove-member', 'patroni4')).toBe(0)
  expect(swarm.labels.get('d')?.has('pg.slot')).toBe(false)
  expect(swarm.secrets.has('main_patroni4_key_1')).toBe(false)
  expect(swarm.file('deployed', 'stack.yml')).not.toContain('patroni4')
})

test('a member that is the primary hands over before it is taken away', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('remove-member', 'patroni1')).toBe(0)
  expect(changing(swarm)[0]).toBe('switching over from patroni1 to patroni3')
  expect(swarm.file('cluster.env')).toContain('PG_NODES=2:b,3:c')
})

test('what a lost node had comes to another: etcd is told first, and begins empty', async () => {
  const swarm = new FakeSwarm({ nodes: ['a', 'b', 'c', 'd'] })
  await swarm.cluster('init', 'main', ...IMAGES, '--set', 'PGBACKREST_NODE=b')
  await swarm.cluster('up')
  swarm.down.add('a')
  expect(await swarm.cluster('replace-node', 'a', 'd')).toBe(0)
  expect(changing(swarm)[0]).toBe('switching over from patroni1 to patroni3')
  const called = swarm.jobs.flatMap((job) => /member\/(\w+)$/.exec(job.at(-1) ?? '')?.[1] ?? [])
  expect(called).toEqual(['list', 'remove', 'add'])
  expect(swarm.jobs.find((job) => job.at(-1)?.endsWith('/remove'))).toContain('{"ID":"100"}')
  expect(swarm.labels.get('a')?.size).toBe(0)
  expect(Object.fromEntries(swarm.labels.get('d') ?? [])).toEqual({
    'pgsteer.cluster': 'main',
    'pg.slot': '1',
    'etcd.slot': '1',
    monitoring: 'true',
  })
  expect(swarm.file('cluster.env')).toContain('ETCD1_STATE=existing')
  expect(swarm.file('deployed', 'stack.yml')).toContain('ETCD_INITIAL_CLUSTER_STATE: existing')
})

test('down keeps data and keys, unless they are asked for by the name of the cluster', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('down', '--volumes', '--secrets')).toBe(1)
  expect(swarm.text).toContain('--yes-remove=main')
  expect(swarm.stacks.has('main')).toBe(true)
  expect(await swarm.cluster('down')).toBe(0)
  expect(swarm.stacks.size).toBe(0)
  expect(swarm.secrets.size).toBeGreaterThan(0)
  expect(await swarm.cluster('down', '--volumes', '--secrets', '--yes-remove=main')).toBe(0)
  expect(swarm.secrets.size).toBe(0)
  expect(swarm.jobs[0]).toContain('main_pg1')
  expect([...swarm.labels.values()].every((labels) => labels.size === 0)).toBe(true)
})

test('status tells what is wrong, as text and as JSON, and by its exit code', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('status')).toBe(0)
  expect(swarm.text).toContain('main: all is well')
  swarm.leader = 'none'
  expect(await swarm.cluster('status', '--json')).toBe(1)
  const { isWell, problems } = JSON.parse(swarm.text) as { isWell: boolean; problems: string[] }
  expect(isWell).toBe(false)
  expect(problems[0]).toContain('no primary')
})

test('every command has a help, and an unknown one or option names the way out', async () => {
  const swarm = new FakeSwarm()
  expect(await swarm.cluster('help')).toBe(0)
  const names = [...swarm.text.matchAll(/^ {2}([a-z-]+) /gm)].map(([, name = '']) => name)
  expect(names).toContain('rotate-certs')
  for (const name of names) {
    expect(await swarm.cluster(name, '--help'), name).toBe(0)
    expect(swarm.text).toContain(`Usage: deploy/cluster ${name}`)
  }
  expect(await swarm.cluster('ups')).toBe(2)
  expect(await swarm.cluster('up', '--nonsense')).toBe(1)
  expect(swarm.text).toContain('what to do: See `up --help`.')
  expect(swarm.commands).toEqual([])
})
