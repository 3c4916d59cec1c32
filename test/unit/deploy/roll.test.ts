/**
 * How a running cluster is changed on bad days: after a failure, a kill, from an old copy of the folder, with
 * members that are ill. Whatever happens, no two members of a kind are down for it.
 */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { FakeSwarm, removeFolders } from './swarm.ts'

afterAll(removeFolders)

const IMAGES = ['--set', 'NODE_IMAGE=node:1', '--set', 'PGSTEER_IMAGE=pgsteer:1']

async function deployed(...settings: readonly string[]): Promise<FakeSwarm> {
  const swarm = new FakeSwarm()
  expect(await swarm.cluster('init', 'main', ...IMAGES, ...settings)).toBe(0)
  expect(await swarm.cluster('up'), swarm.text).toBe(0)
  swarm.unsettled.length = 0
  return swarm
}

/** A setting of cluster.env, by hand. */
function set(swarm: FakeSwarm, name: string, value: string): void {
  const file = join(swarm.folder, 'cluster/cluster.env')
  const text = readFileSync(file, 'utf8')
  const line = new RegExp(`^${name}=.*$`, 'm')
  writeFileSync(
    file,
    line.test(text) ? text.replace(line, `${name}=${value}`) : `${text}${name}=${value}\n`,
  )
}

const isDeploy = (command: string): boolean => command.startsWith('stack deploy')

const deploys = (swarm: FakeSwarm): string[] => swarm.changes.filter(isDeploy)

/** At most one member of each kind was out of order at any deploy. */
function expectOneByOne(swarm: FakeSwarm): void {
  for (const kind of ['etcd', 'patroni'])
    for (const names of swarm.unsettled)
      expect(names.filter((name) => name.includes(kind)).length).toBeLessThanOrEqual(1)
}

test('an image of etcd that does not start takes one member, however often it is tried', async () => {
  const swarm = await deployed()
  swarm.badImages.add('etcd:bad')
  expect(await swarm.cluster('upgrade', '--etcd-image=etcd:bad')).toBe(1)
  expect(swarm.text).toContain('etcd1 did not start anew within 600 s')
  for (let attempt = 0; attempt < 2; attempt += 1) {
    expect(await swarm.cluster('upgrade', '--etcd-image=etcd:bad')).toBe(1)
    expect(swarm.text).toContain('etcd2 is left as it is')
    expect(deploys(swarm)).toEqual([])
  }
  expect(await swarm.cluster('upgrade', '--etcd-image=etcd:good')).toBe(0)
  expectOneByOne(swarm)
})

test('what is ill changes first, and while it stays ill nothing else does', async () => {
  const swarm = await deployed()
  swarm.ill.add('etcd3')
  expect(await swarm.cluster('upgrade', '--etcd-image=etcd:2')).toBe(1)
  expect(swarm.said.filter((text) => text.startsWith('changing'))).toEqual(['changing etcd3'])
  expectOneByOne(swarm)
})

// Of seven deploys: etcd's first, a replica's, the whole.
test.each([1, 5, 7])(
  'an upgrade that is killed at deploy %i goes on where it was, one member after the other',
  async (at) => {
    const swarm = await deployed()
    let left = at
    swarm.killing = (command) => isDeploy(command) && (left -= 1) === 0
    const words = ['upgrade', '--etcd-image=etcd:2', '--node-image=node:2']
    await expect(swarm.cluster(...words)).rejects.toThrow('killed')
    swarm.begin()
    expect(await swarm.cluster('up', '--break-lock'), swarm.text).toBe(0)
    expectOneByOne(swarm)
    expect([...swarm.services.values()].filter(({ image }) => image === 'node:1')).toEqual([])
  },
)

test('new certificates come to their end by `up`, whichever command of Docker fails on the way', async () => {
  const whole = await deployed()
  expect(await whole.cluster('rotate-certs')).toBe(0)
  const count = whole.commands.length
  for (const part of [0.1, 0.4, 0.7, 0.9]) {
    const swarm = await deployed()
    let left = Math.floor(count * part)
    swarm.failing = () => (left -= 1) === 0
    await swarm.cluster('rotate-certs')
    swarm.begin()
    expect(await swarm.cluster('up'), swarm.text).toBe(0)
    expectOneByOne(swarm)
    expect(swarm.file('cluster.env')).toContain('CERT_EPOCH=2')
    expect([...swarm.secrets.keys()].filter((name) => name.endsWith('_crt_1'))).toEqual([])
  }
})

test('a first up that fails or is killed at its deploy may be run again', async () => {
  const swarm = new FakeSwarm()
  await swarm.cluster('init', 'main', ...IMAGES)
  swarm.failing = isDeploy
  expect(await swarm.cluster('up')).toBe(1)
  swarm.killing = isDeploy
  await expect(swarm.cluster('up')).rejects.toThrow('killed')
  expect(await swarm.cluster('up', '--break-lock')).toBe(0)
  expect(deploys(swarm)).toHaveLength(1)
})

test('an older copy of the folder is refused; taken over by word, it goes member by member', async () => {
  const swarm = await deployed()
  const copy = join(swarm.folder, 'copy')
  cpSync(join(swarm.folder, 'cluster'), copy, { recursive: true })
  expect(await swarm.cluster('upgrade', '--node-image=node:2')).toBe(0)
  expect(await swarm.cluster('up', `--dir=${copy}`)).toBe(1)
  expect(swarm.text).toContain('deployed from a later copy')
  expect(swarm.text).toContain('--take-over')
  expect(swarm.changes).toEqual([])
  swarm.unsettled.length = 0
  expect(await swarm.cluster('up', `--dir=${copy}`, '--take-over')).toBe(0)
  expectOneByOne(swarm)
  expect(await swarm.cluster('up', `--dir=${copy}`)).toBe(0)
})

test('a registry is asked for images that change, and not for others', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('upgrade', '--node-image=node:2')).toBe(0)
  for (const command of deploys(swarm))
    expect(command).toContain('--resolve-image changed --with-registry-auth')
})

test('an option that an older docker does not know is left out', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('up')).toBe(0)
  expect(deploys(swarm)[0]).toContain('--detach=true')
  swarm.client = '25.0.5'
  expect(await swarm.cluster('up')).toBe(0)
  expect(deploys(swarm)[0]).not.toContain('--detach')
})

test('--wait=0 changes no member, but may deploy all the rest', async () => {
  const swarm = await deployed()
  expect(await swarm.cluster('upgrade', '--node-image=node:2', '--wait=0')).toBe(1)
  expect(swarm.text).toContain('--wait=0')
  expect(deploys(swarm)).toEqual([])
  expect(
    await swarm.cluster('upgrade', '--node-image=node:1', '--pgsteer-image=p:2', '--wait=0'),
  ).toBe(0)
})

test('a cluster of which nothing works may be changed at once, by word', async () => {
  const swarm = await deployed()
  for (const name of ['etcd1', 'etcd2', 'patroni1']) swarm.ill.add(name)
  set(swarm, 'ETCD_IMAGE', 'etcd:2')
  expect(await swarm.cluster('up')).toBe(1)
  expect(swarm.text).toContain('up --all-at-once')
  swarm.ill.clear()
  expect(await swarm.cluster('up', '--all-at-once')).toBe(0)
  expect(deploys(swarm)).toHaveLength(1)
})

const RECEIVERS = join(import.meta.dirname, '../../../deploy/alertmanager/receivers.example.yml')
/** What monitoring and tools cannot do without. */
const WITH_ALL = [`ALERT_RECEIVERS_FILE=${RECEIVERS}`, 'PGADMIN_EMAIL=dba@example.org'].flatMap(
  (one) => ['--set', one],
)

test('each round of a new authority ends when every service of every stack has begun it', async () => {
  const swarm = await deployed(...WITH_ALL)
  expect(await swarm.cluster('up', 'tools')).toBe(0)
  const rounds: string[] = []
  for (let call = 0; call < 2; call += 1) {
    expect(await swarm.cluster('rotate-certs', '--new-ca')).toBe(0)
    rounds.push(...swarm.said.filter((text) => text.startsWith('changing')))
  }
  expect(rounds.filter((text) => text === 'changing pgbackrest, pgsteer')).toHaveLength(3)
  expect(rounds.filter((text) => /changing .*prometheus/.test(text))).toHaveLength(3)
  expect(rounds.filter((text) => text === 'changing pgadmin')).toHaveLength(3)
  expect(swarm.late).toEqual([])
})

test('networks that differ from what runs are refused: Docker would leave them, members would not', async () => {
  const swarm = await deployed()
  for (const [name, value, before] of [
    ['DB_SUBNET', '10.99.2.0/24', '10.77.2.0/24'],
    ['ENCRYPTED', 'false', 'true'],
  ] as const) {
    set(swarm, name, value)
    for (const option of [[], ['--dry-run']]) {
      expect(await swarm.cluster('up', ...option)).toBe(1)
      expect(swarm.text).toMatch(
        /the network main-d\w+ exists with the subnet .* cluster\.env says otherwise/,
      )
      expect(swarm.changes).toEqual([])
    }
    set(swarm, name, before)
  }
  set(swarm, 'DB_SUBNET', '10.99.2.0/24')
  expect(await swarm.cluster('down')).toBe(0)
  expect(await swarm.cluster('up')).toBe(0)
})

test('a second cluster in the same Swarm is refused before anything changes', async () => {
  const swarm = await deployed()
  expect(
    await swarm.cluster('init', 'other', ...IMAGES, `--dir=${join(swarm.folder, 'other')}`),
  ).toBe(1)
  expect(swarm.text).toContain('a has services of the cluster main: a Swarm has one cluster')
  expect(swarm.changes).toEqual([])
  expect(swarm.secrets.has('other_ca_crt_1')).toBe(false)
})

test('networks of a name that begins as the cluster does are not its own', async () => {
  const swarm = await deployed()
  swarm.networks.set('main-x-dcs', { stack: 'main-x', file: { name: 'main-x-dcs' } })
  expect(await swarm.cluster('down')).toBe(0)
  expect([...swarm.networks.keys()]).toEqual(['main-x-dcs'])
})

test('a slot stays where its data is; before the first up it may still move', async () => {
  const swarm = new FakeSwarm()
  await swarm.cluster('init', 'main', ...IMAGES)
  set(swarm, 'PG_NODES', '1:b,2:a,3:c')
  expect(await swarm.cluster('up')).toBe(0)
  expect(swarm.labels.get('b')?.get('pg.slot')).toBe('1')
  set(swarm, 'PG_NODES', '1:a,2:b,3:c')
  for (const command of ['up', 'init']) {
    expect(await swarm.cluster(command)).toBe(1)
    expect(swarm.text).toContain('PG_NODES: slot 1 is on b, and its data stays there')
    expect(swarm.changes).toEqual([])
  }
})

test('up --dry-run before the first up says what it would do', async () => {
  const swarm = new FakeSwarm()
  await swarm.cluster('init', 'main', ...IMAGES)
  expect(await swarm.cluster('up', '--dry-run'), swarm.text).toBe(0)
  expect(swarm.text).toContain('would run: docker stack deploy')
  expect(swarm.changes).toEqual([])
})

test("the operator's own environment is kept from the stack files", async () => {
  const swarm = await deployed('--set', 'TZ=Europe/Lisbon')
  expect(swarm.environment['TZ']).toBe('Europe/Lisbon')
  expect(swarm.environment).toHaveProperty('ETCD_IMAGE', undefined)
  expect(swarm.environment).toHaveProperty('BACKUP_FULL', undefined)
  expect(swarm.environment).not.toHaveProperty('PATH')
})

test('a port that is set publishes Grafana and pgAdmin', async () => {
  const swarm = await deployed(...WITH_ALL)
  expect(await swarm.cluster('up', 'tools')).toBe(0)
  expect(swarm.file('deployed', 'monitoring.yml')).not.toContain('published')
  expect(swarm.file('deployed', 'tools.yml')).not.toContain('published')
  set(swarm, 'GRAFANA_PORT', '3001')
  set(swarm, 'PGADMIN_PORT', '8444')
  expect(await swarm.cluster('up')).toBe(0)
  expect(swarm.file('deployed', 'monitoring.yml')).toMatch(/target: 3000\s+published: 3001/)
  expect(swarm.file('deployed', 'tools.yml')).toMatch(/target: 8443\s+published: 8444/)
})
