/**
 * Cancel requests for keys of other instances: passed on once, to whom the key names, within
 * limits; who is not in the configuration is asked for.
 */
import { describe, expect, test } from 'vitest'
import { createLog } from '../../../src/base/log.ts'
import type { CancelKey } from '../../../src/client/cancel.ts'
import { Peers, type PeersDeps, peerTlsSettings, peerTlsUse } from '../../../src/client/peers.ts'
import type { Config, PeerConfig } from '../../../src/config/config.ts'
import { FakeClock } from '../../support/clock.ts'
import { configFrom } from '../../support/config.ts'

const INI =
  '[databases]\n* = host=pg1\n[peers]\n7 = host=seven\n[pgbouncer]\ndefault_pool_size = 3\n'
const FOUND: PeerConfig = { id: 40, host: 'forty', port: 6432, poolSize: null, tls: 'none' }

/** A key of that instance that may be passed on `hops` times. */
function keyOf(instance: number, hops = 3): CancelKey {
  const id = Buffer.alloc(4)
  id.writeUInt16LE(instance, 1)
  return { processId: id.readUInt32BE(0), secret: Buffer.from([1, 2, 3, 0xfc | hops]) }
}

interface Sent {
  readonly host: string
  readonly key: CancelKey
  readonly done: PromiseWithResolvers<void>
}

function begin(some: Partial<PeersDeps> = {}, ini = `${INI}peer_id = 1`) {
  const sent: Sent[] = []
  const asked: number[] = []
  const config = configFrom(ini)
  const peers = new Peers({
    clock: new FakeClock(),
    log: createLog({ level: 'silent', format: 'json', file: undefined }, {}),
    config: () => config,
    find: (instance) => {
      asked.push(instance)
      return Promise.resolve(instance === 40 ? FOUND : null)
    },
    send: ({ host }, key) => {
      const done = Promise.withResolvers<void>()
      sent.push({ host, key, done })
      return done.promise
    },
    ...some,
  })
  return { peers, sent, asked }
}

test('a request goes to the peer of its key, with one hop less', async () => {
  const { peers, sent, asked } = begin()
  const outcome = peers.forward(keyOf(7, 2))
  expect(sent.map(({ host }) => host)).toEqual(['seven'])
  expect(sent[0]?.key).toEqual(keyOf(7, 1))
  expect(peers.facts()).toEqual([{ id: 7, underWay: 1 }])
  sent[0]?.done.resolve()
  expect(await outcome).toBe('passed_on')
  expect(peers.facts()).toEqual([])
  expect(asked).toEqual([])
})

test('who is not in the configuration is asked for', async () => {
  const { peers, sent, asked } = begin()
  const outcome = peers.forward(keyOf(40))
  await Promise.resolve()
  await Promise.resolve()
  expect(sent.map(({ host }) => host)).toEqual(['forty'])
  sent[0]?.done.resolve()
  expect(await outcome).toBe('passed_on')
  expect(await peers.forward(keyOf(41))).toBe('no_peer')
  expect(asked).toEqual([40, 41])
})

test('nobody to ask is no such instance', async () => {
  const { peers } = begin({ find: () => Promise.reject(new Error('control is gone')) })
  expect(await peers.forward(keyOf(40))).toBe('no_peer')
})

test('a key without hops goes nowhere', async () => {
  const { peers, sent } = begin()
  expect(await peers.forward(keyOf(7, 0))).toBe('no_hops')
  expect(sent).toEqual([])
})

test('what is sent to one peer at once is bounded by its pool', async () => {
  const { peers, sent } = begin()
  const outcomes = [0, 1, 2, 3, 4].map(() => peers.forward(keyOf(7)))
  expect(await Promise.all(outcomes.slice(3))).toEqual(['crowded', 'crowded'])
  for (const { done } of sent) done.reject(new Error('unreachable'))
  expect(await Promise.all(outcomes.slice(0, 3))).toEqual(Array(3).fill('unreachable'))
  const again = peers.forward(keyOf(7))
  sent[3]?.done.resolve()
  expect(await again).toBe('passed_on')
})

test('questions for unknown instances are bounded', async () => {
  const silent = new Promise<null>(() => undefined)
  const { peers } = begin({ find: () => silent })
  for (let index = 0; index < 100; index += 1) void peers.forward(keyOf(100 + index))
  expect(await peers.forward(keyOf(500))).toBe('crowded')
})

test('without peer_id nobody takes part in [peers]', async () => {
  const { peers, sent } = begin({}, INI)
  expect(await peers.forward(keyOf(7))).toBe('no_peer')
  expect(sent).toEqual([])
})

/** What files hold is not looked at here. */
const FILES = ['cert', 'key']
  .map((what) => `server_tls_${what}_file = ${import.meta.filename}`)
  .join('\n')

function configOf(keys: string): Config {
  return configFrom(`[databases]\n* = host=pg1\n[pgbouncer]\n${keys}`)
}

describe('TLS towards a peer', () => {
  test.each([
    ['disable', 'plain'],
    ['allow', 'plain'],
    ['prefer', 'optional'],
    ['require', 'required'],
  ])('of [peers] is that towards servers: %s', (mode, use) => {
    const config = configOf(`server_tls_sslmode = ${mode}`)
    expect(peerTlsUse({ host: 'pg', tls: null }, config)).toBe(use)
    expect(peerTlsUse({ host: '/tmp', tls: null }, config)).toBe('plain')
  })

  test.each([
    ['none', 'require', '', 'plain'],
    ['offered', 'disable', '', 'required'],
    ['certificate', 'disable', '', 'plain'],
    ['certificate', 'require', FILES, 'required'],
  ] as const)('that is registered as %s, with server_tls_sslmode = %s', (tls, mode, files, use) => {
    const config = configOf(`server_tls_sslmode = ${mode}\n${files}`)
    expect(peerTlsUse({ host: 'pg', tls }, config)).toBe(use)
  })

  test('is possible though servers have none', () => {
    expect(peerTlsSettings(configOf('server_tls_sslmode = disable')).sslmode).toBe('require')
    expect(peerTlsSettings(configOf('server_tls_sslmode = prefer')).sslmode).toBe('prefer')
  })
})
