/**
 * An instance finds a number of its own in etcd and keeps it, whatever happens to its lease, to
 * etcd and to the number; nobody takes a number that somebody has.
 */
import { describe, expect, test } from 'vitest'
import { createLog } from '../../../src/base/log.ts'
import {
  advertisedHost,
  freeNumber,
  INSTANCE_ID_MAX,
  type Instances,
  instancesPrefix,
  instanceText,
  peersOf,
  readInstances,
  withInstances,
} from '../../../src/cluster/instances.ts'
import type { Snapshot, StoredKey } from '../../../src/cluster/keyspace.ts'
import { Registration, type RegistrationDeps } from '../../../src/cluster/registration.ts'
import type { Claim } from '../../../src/cluster/registry.ts'
import { FakeClock } from '../../support/clock.ts'
import { configFrom } from '../../support/config.ts'

/** An etcd of one member that does what it is told. */
class FakeEtcd {
  readonly url = 'http://etcd:2379'
  readonly keys = new Map<string, StoredKey>()
  readonly leases = new Set<string>()
  reads = 0
  /** A question opens a connection. */
  isOpen = false
  /** What every question is answered with instead. */
  problem: string | null = null
  /** What claims alone are answered with instead. */
  claimProblem: string | null = null
  /** Called before a claim is looked at: somebody else is faster. */
  onClaim: (name: string) => void = () => undefined
  #revision = 10n

  put(name: string, value: string, lease = '0'): void {
    this.#revision += 1n
    const createRevision = this.keys.get(name)?.createRevision ?? this.#revision
    this.keys.set(name, { value, createRevision, modRevision: this.#revision, lease })
  }

  /** The lease is over, and what hangs on it is gone. */
  end(lease: string): void {
    this.leases.delete(lease)
    for (const [name, key] of this.keys) if (key.lease === lease) this.keys.delete(name)
  }

  async read(): Promise<Snapshot> {
    this.reads += 1
    await this.#answer()
    const header = { clusterId: '1', revision: this.#revision, raftTerm: 1n }
    return { header, keys: new Map(this.keys) }
  }

  async grant(): Promise<string> {
    await this.#answer()
    const lease = String(1000 + this.leases.size + Number(this.#revision))
    this.leases.add(lease)
    return lease
  }

  async renew(lease: string): Promise<boolean> {
    await this.#answer()
    return this.leases.has(lease)
  }

  async revoke(lease: string): Promise<void> {
    await this.#answer()
    this.end(lease)
  }

  async claim({ name, value, lease, over }: Claim): Promise<boolean> {
    await this.#answer()
    if (this.claimProblem !== null) throw new Error(this.claimProblem)
    this.onClaim(name)
    if ((this.keys.get(name)?.modRevision ?? 0n) !== over) return false
    if (!this.leases.has(lease)) throw new Error('requested lease not found')
    this.put(name, value, lease)
    return true
  }

  close(): void {
    this.isOpen = false
  }

  async #answer(): Promise<void> {
    this.isOpen = true
    await Promise.resolve()
    if (this.problem !== null) throw new Error(this.problem)
  }
}

function card(owner: string, port = 6432): Parameters<typeof instanceText>[0] {
  return { owner, host: '10.0.0.9', port, tls: 'none', version: '1.0.0', startedWallMs: 5 }
}

interface Bench {
  readonly etcd: FakeEtcd
  readonly clock: FakeClock
  readonly published: Instances[]
  readonly log: string[]
  readonly registration: Registration
  /** Lets so much time pass, and everything happen that follows from it. */
  pass(ms: number): Promise<void>
}

function begin(some: Partial<RegistrationDeps> = {}, etcd = new FakeEtcd()): Bench {
  const clock = new FakeClock()
  const published: Instances[] = []
  const log: string[] = []
  const registration = new Registration({
    clock,
    log: recordingLog(log),
    registries: [etcd],
    card: card('me'),
    host: null,
    listenAddr: ['*'],
    wanted: 0,
    before: 0,
    localAddress: () => Promise.resolve('10.0.0.1'),
    random: () => 6,
    publish: (instances) => published.push(instances),
    ...some,
  })
  const pass = async (ms: number): Promise<void> => {
    for (let past = 0; past < ms; past += 250) {
      clock.advance(250)
      await settled()
    }
  }
  return { etcd, clock, published, log, registration, pass }
}

/** Promises that wait for nothing outside have done so after a few turns. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 40; turn += 1) await Promise.resolve()
}

function recordingLog(lines: string[]): RegistrationDeps['log'] {
  const log = createLog({ level: 'silent', format: 'json', file: undefined }, {})
  const note =
    (level: string) =>
    (fields: unknown, text = '') => {
      lines.push(`${level} ${JSON.stringify(fields)} ${text}`)
    }
  return new Proxy(log, {
    get: (target, name) =>
      name === 'warn' || name === 'info' ? note(name) : Reflect.get(target, name),
  })
}

/** Started and registered. */
async function registered(some: Partial<RegistrationDeps> = {}, etcd?: FakeEtcd): Promise<Bench> {
  const bench = begin(some, etcd)
  bench.registration.start()
  await settled()
  await bench.pass(1000)
  return bench
}

function latest({ published }: Bench): Instances {
  const last = published.at(-1)
  if (last === undefined) throw new Error('nothing was published')
  return last
}

test('an instance writes itself down under a free number, on a lease', async () => {
  const bench = await registered()
  const { etcd } = bench
  expect([...etcd.keys.keys()]).toEqual(['7'])
  expect(etcd.leases.has(etcd.keys.get('7')?.lease ?? '')).toBe(true)
  expect(JSON.parse(etcd.keys.get('7')?.value ?? '')).toEqual({ ...card('me'), host: '10.0.0.1' })
  expect(latest(bench)).toEqual({ id: 7, all: [{ ...card('me'), id: 7, host: '10.0.0.1' }] })
})

test('the number of another one is never taken, also when that one is faster', async () => {
  const etcd = new FakeEtcd()
  etcd.put('7', instanceText(card('other')))
  etcd.onClaim = (name) => {
    if (name === '8') etcd.put('8', instanceText(card('faster')))
  }
  const bench = await registered({}, etcd)
  expect(latest(bench).id).toBe(9)
  expect(latest(bench).all.map(({ id, owner }) => [id, owner])).toEqual([
    [7, 'other'],
    [8, 'faster'],
    [9, 'me'],
  ])
})

test('a key that cannot be read holds its number all the same', async () => {
  const etcd = new FakeEtcd()
  etcd.put('7', 'not JSON')
  let drawn = 5
  const random = (): number => {
    drawn += 1
    return drawn
  }
  const bench = await registered({ random }, etcd)
  expect(etcd.keys.get('7')?.value).toBe('not JSON')
  expect(latest(bench).id).toBe(8)
})

test('the lease is renewed, and what nobody changes is published once', async () => {
  const bench = await registered()
  const { lease } = bench.etcd.keys.get('7') ?? {}
  await bench.pass(60_000)
  expect(bench.etcd.keys.get('7')?.lease).toBe(lease)
  expect(bench.published).toHaveLength(1)
})

test('after the loss of its lease an instance takes another one and keeps its number', async () => {
  const bench = await registered()
  bench.etcd.end(bench.etcd.keys.get('7')?.lease ?? '')
  await bench.pass(4000)
  expect(bench.etcd.leases.has(bench.etcd.keys.get('7')?.lease ?? '')).toBe(true)
  expect(latest(bench).id).toBe(7)
})

test('a number that somebody else took meanwhile is not fought for', async () => {
  const bench = await registered()
  const { etcd } = bench
  etcd.end(etcd.keys.get('7')?.lease ?? '')
  etcd.put('7', instanceText(card('other')))
  await bench.pass(4000)
  expect(JSON.parse(etcd.keys.get('7')?.value ?? '').owner).toBe('other')
  expect(latest(bench).id).toBe(8)
  expect(peersOf(latest(bench)).get(7)?.host).toBe('10.0.0.9')
})

test('a new control process takes over the key that the one before it left', async () => {
  const etcd = new FakeEtcd()
  etcd.leases.add('1')
  etcd.put('7', instanceText(card('me')), '1')
  const bench = await registered({ before: 7, random: () => 99 }, etcd)
  expect([...etcd.keys.keys()]).toEqual(['7'])
  etcd.end('1')
  await bench.pass(4000)
  expect([...etcd.keys.keys()]).toEqual(['7'])
  expect(latest(bench).id).toBe(7)
})

test('while etcd is silent everything stays as it was, and people are told once', async () => {
  const bench = await registered()
  bench.etcd.problem = 'no answer within 1000 ms'
  await bench.pass(30_000)
  expect(bench.published).toHaveLength(1)
  expect(bench.log.filter((line) => line.startsWith('warn'))).toHaveLength(1)
  bench.etcd.problem = null
  bench.etcd.end(bench.etcd.keys.get('7')?.lease ?? '')
  await bench.pass(4000)
  expect(latest(bench).id).toBe(7)
  expect(bench.log.at(-1)).toMatch(/^info .*written down/)
})

describe('without the right to write', () => {
  test('the others are known, people are told once, and it is tried again every minute', async () => {
    const etcd = new FakeEtcd()
    etcd.put('3', instanceText(card('other')))
    etcd.claimProblem = 'etcdserver: permission denied'
    const bench = await registered({}, etcd)
    await bench.pass(50_000)
    expect(latest(bench)).toMatchObject({ id: 0, all: [{ id: 3, owner: 'other' }] })
    const warnings = bench.log.filter((line) => line.startsWith('warn'))
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toContain('permission denied')
    etcd.claimProblem = null
    await bench.pass(11_000)
    expect(latest(bench).id).toBe(8)
  })

  test('nor to read: etcd is asked once a minute', async () => {
    const etcd = new FakeEtcd()
    etcd.problem = 'etcdserver: permission denied'
    const bench = await registered({}, etcd)
    await bench.pass(50_000)
    expect(etcd.reads).toBe(1)
    expect(bench.log.filter((line) => line.startsWith('warn'))).toHaveLength(1)
  })
})

describe('peer_id', () => {
  test('is the number to have', async () => {
    expect(latest(await registered({ wanted: 12 })).id).toBe(12)
  })

  test('that another one has is waited for, and nothing else is taken', async () => {
    const etcd = new FakeEtcd()
    etcd.leases.add('1')
    etcd.put('12', instanceText(card('other')), '1')
    const bench = await registered({ wanted: 12 }, etcd)
    await bench.pass(5000)
    expect([...etcd.keys.keys()]).toEqual(['12'])
    expect(bench.log.join('\n')).toContain('peer_id = 12 is taken by 10.0.0.9:6432')
    etcd.end('1')
    await bench.pass(3000)
    expect(latest(bench)).toMatchObject({ id: 12, all: [{ id: 12, owner: 'me' }] })
  })
})

test('an instance that stops is gone at once', async () => {
  const bench = await registered()
  await bench.registration.stop()
  expect(bench.etcd.keys.size).toBe(0)
  await bench.pass(10_000)
  expect(bench.etcd.keys.size).toBe(0)
})

test('whenever an instance stops, it leaves no key and no connection behind', async () => {
  for (let turns = 0; turns < 60; turns += 1) {
    for (const restMs of [0, 2000]) {
      const bench = restMs === 0 ? begin() : await registered()
      if (restMs === 0) bench.registration.start()
      else bench.clock.advance(restMs)
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve()
      await bench.registration.stop()
      await settled()
      await bench.pass(1000)
      expect([turns, bench.etcd.isOpen, bench.etcd.keys.size]).toEqual([turns, false, 0])
    }
  }
})

test.each([
  ['[fd00::1]', null],
  ['fe80::1%eth0', null],
  [null, 'fe80::1%eth0'],
])('an address that nobody can read is not written down: %s, %s', async (host, local) => {
  const localAddress = (): Promise<string> => Promise.resolve(local ?? '10.0.0.1')
  const bench = await registered({ host, localAddress })
  await bench.pass(5000)
  expect(bench.etcd.keys.size).toBe(0)
  const warnings = bench.log.filter((line) => line.startsWith('warn'))
  expect(warnings).toHaveLength(1)
  expect(warnings[0]).toContain('set advertise_addr to a name or an address')
})

test('an instance that listens on any free port is not written down without advertise_port', async () => {
  const bench = await registered({ card: card('me', 0) })
  await bench.pass(5000)
  expect(bench.etcd.keys.size).toBe(0)
  expect(bench.log.filter((line) => line.startsWith('warn'))).toHaveLength(1)
})

test('an instance whose own key ends while it claims it keeps its number', async () => {
  const etcd = new FakeEtcd()
  etcd.leases.add('1')
  etcd.put('7', instanceText(card('me')), '1')
  etcd.onClaim = () => etcd.end('1')
  const bench = await registered({ before: 7, random: () => 99 }, etcd)
  expect([...etcd.keys.keys()]).toEqual(['7'])
  expect(latest(bench).id).toBe(7)
})

describe('find', () => {
  test('asks etcd for a number that is not known', async () => {
    const bench = await registered()
    bench.etcd.put('40', instanceText(card('new', 7000)))
    const found = bench.registration.find(40)
    await settled()
    expect(await found).toEqual({
      id: 40,
      host: '10.0.0.9',
      port: 7000,
      poolSize: null,
      tls: 'none',
    })
  })

  test('makes a few reads of many questions', async () => {
    const bench = await registered()
    const before = bench.etcd.reads
    const asked = Array.from({ length: 500 }, (_, index) => bench.registration.find(100 + index))
    await settled()
    expect(new Set(await Promise.all(asked))).toEqual(new Set([null]))
    const again = bench.registration.find(9)
    await settled()
    expect(bench.etcd.reads - before).toBe(1)
    await bench.pass(250)
    expect(await again).toBeNull()
  })

  test('of a number that nobody has is null, also while etcd is silent', async () => {
    const bench = await registered()
    bench.etcd.problem = 'no answer within 1000 ms'
    const found = bench.registration.find(40)
    await settled()
    expect(await found).toBeNull()
  })
})

function snapshotWith(cards: Readonly<Record<string, string>>): Snapshot {
  const keys = Object.entries(cards).map(([name, value]): [string, StoredKey] => [
    name,
    { value, createRevision: 1n, modRevision: 1n, lease: '0' },
  ])
  return { header: { clusterId: '1', revision: 1n, raftTerm: 1n }, keys: new Map(keys) }
}

test('what is no card under a number is left out', () => {
  const good = card('one')
  const keys = snapshotWith({
    '1': instanceText(good),
    '0': instanceText(good),
    '16384': instanceText(good),
    x: instanceText(good),
    '2': instanceText({ ...good, host: '/var/run' }),
    '3': instanceText({ ...good, port: 0 }),
    '4': instanceText({ ...good, owner: '' }),
    '5': '[]',
    '6': instanceText({ ...good, owner: 'o'.repeat(65) }),
  })
  const found = readInstances(keys, 'me')
  expect(found.map(({ instance }) => instance.id)).toEqual([1])
})

test('of a card only what can be shown is read', () => {
  const strange = { ...card('one'), version: 'v'.repeat(100), startedWallMs: 1e300 }
  const [found] = readInstances(snapshotWith({ '1': instanceText(strange) }), 'me')
  expect(found?.instance).toMatchObject({ version: 'v'.repeat(64), startedWallMs: 0 })
})

test('of too many cards our own is never left out', () => {
  const cards = Array.from({ length: 1100 }, (_, index) => [
    `${index + 1}`,
    instanceText(card('o')),
  ])
  const keys = snapshotWith({ ...Object.fromEntries(cards), '1090': instanceText(card('me')) })
  const found = readInstances(keys, 'me').map(({ instance }) => instance.id)
  expect(found).toHaveLength(1001)
  expect(found.at(-1)).toBe(1090)
})

test('numbers are drawn from all that are free, and there are no others', () => {
  const taken = new Set([1, 3, INSTANCE_ID_MAX])
  const free = INSTANCE_ID_MAX - taken.size
  const draw = (index: number): number => freeNumber(taken, () => index)
  expect([0, 1, 2, free - 1].map(draw)).toEqual([2, 4, 5, INSTANCE_ID_MAX - 1])
  expect(freeNumber(taken, (below) => below - 1)).toBe(INSTANCE_ID_MAX - 1)
  const all = new Set(Array.from({ length: INSTANCE_ID_MAX }, (_, index) => index + 1))
  expect(freeNumber(all, () => 0)).toBe(0)
})

test.each([
  ['*', '10.0.0.1'],
  ['0.0.0.0', '10.0.0.1'],
  ['127.0.0.1, ::', '10.0.0.1'],
  ['10.0.0.1, 10.9.9.9', '10.0.0.1'],
  ['10.9.9.9', '10.9.9.9'],
  ['127.0.0.1, 10.9.9.9', '10.9.9.9'],
  ['127.0.0.1', '127.0.0.1'],
  ['', null],
])('an instance that listens on "%s" is reached at %s', (listen, host) => {
  const addresses = listen === '' ? [] : listen.split(', ')
  expect(advertisedHost(addresses, '10.0.0.1')).toBe(host)
})

test("the keys are outside of Patroni's namespace", () => {
  const at = { namespace: '/service/', scope: 'main', group: null }
  expect(instancesPrefix(at)).toBe('/pgsteer/service/main/instances/')
  expect(instancesPrefix({ ...at, group: 0 })).toBe('/pgsteer/service/main/0/instances/')
})

describe('what the data plane works with', () => {
  const all = [
    { ...card('one'), id: 1 },
    { ...card('two'), id: 2 },
  ]

  test('is what etcd knows, this instance left out', () => {
    const config = withInstances(configFrom('[databases]\n* = host=pg1'), { id: 2, all })
    expect(config.pgbouncer.peerId).toBe(2)
    expect([...config.peers.keys()]).toEqual([1])
  })

  test('is [peers] of the file, if there is one', () => {
    const ini = '[databases]\n* = host=pg1\n[peers]\n5 = host=there\n[pgbouncer]\npeer_id = 4'
    const config = withInstances(configFrom(ini), { id: 2, all })
    expect(config.pgbouncer.peerId).toBe(4)
    expect([...config.peers.keys()]).toEqual([5])
  })

  test('is peer_id of the file with the others of etcd', () => {
    const ini = '[databases]\n* = host=pg1\n[pgbouncer]\npeer_id = 2'
    const config = withInstances(configFrom(ini), { id: 0, all })
    expect(config.pgbouncer.peerId).toBe(2)
    expect([...config.peers.keys()]).toEqual([1, 2])
  })
})
