import { describe, expect, it } from 'vitest'
import { WelcomeCache, welcomeFrames } from '../../../src/client/welcome.ts'
import { type PoolConfig, poolConfig } from '../../../src/config/config.ts'
import { configFrom } from '../../support/config.ts'
import { plainIni } from '../../support/pools.ts'

const SERVED = new Map([
  ['server_version', '18.0'],
  ['TimeZone', 'Etc/UTC'],
  ['in_hot_standby', 'off'],
])
const KEY = { processId: 7, secret: Buffer.from('abcd') }

function plain(): PoolConfig {
  const config = poolConfig(configFrom(plainIni('')), 'app', 'alice')
  if (config === undefined) throw new Error('the entry is there')
  return config
}

function routed(route: 'split' | 'replica'): PoolConfig {
  return { ...plain(), isRouted: true, route }
}

/** The type letters of the messages in `bytes`. */
function types(bytes: Buffer): string {
  let text = ''
  for (let at = 0; at < bytes.length; at += 1 + bytes.readInt32BE(at + 1))
    text += String.fromCharCode(bytes[at] ?? 0)
  return text
}

describe('the welcome of a client', () => {
  it('is one value for all who ask for the same, and another for who asks for something else', () => {
    const cache = new WelcomeCache()
    const one = cache.find(SERVED, new Map([['timezone', 'UTC']]), plain())
    expect(cache.find(SERVED, new Map([['timezone', 'UTC']]), plain())).toBe(one)
    expect(cache.find(SERVED, new Map([['timezone', 'CET']]), plain())).not.toBe(one)
    expect(cache.find(SERVED, new Map(), plain())).not.toBe(one)
  })

  it('is not confused by values that hold the names of others', () => {
    const cache = new WelcomeCache()
    const one = cache.find(SERVED, new Map([['a', 'bc']]), plain())
    const two = new Map([
      ['a', 'b'],
      ['c', ''],
    ])
    expect(cache.find(SERVED, two, plain())).not.toBe(one)
  })

  it('is made anew when the servers report something else', () => {
    const cache = new WelcomeCache()
    const before = cache.find(SERVED, new Map(), plain())
    const after = cache.find(new Map([['server_version', '18.1']]), new Map(), plain())
    expect(before.parameters.get('server_version')).toBe('18.0')
    expect(after.parameters.get('server_version')).toBe('18.1')
  })

  it('tells what the client asked for, in the spelling of the server', () => {
    const { parameters } = new WelcomeCache().find(SERVED, new Map([['timezone', 'CET']]), plain())
    expect([...parameters.keys()]).toEqual([...SERVED.keys()])
    expect(parameters.get('TimeZone')).toBe('CET')
  })

  it('reports the role of the route where there is one', () => {
    const cache = new WelcomeCache()
    const role = (config: PoolConfig) =>
      cache.find(SERVED, new Map(), config).parameters.get('in_hot_standby')
    expect(role(plain())).toBe('off')
    expect(role(routed('replica'))).toBe('on')
    expect(role(routed('split'))).toBe('off')
  })

  it('has what was asked for once in the settings, and the token of a routed entry never', () => {
    const startup = new Map([
      ['application_name', 'x - 127.0.0.1:5'],
      ['pgsteer.min_lsn', '0/1'],
    ])
    const names = (config: PoolConfig) => [
      ...new WelcomeCache().find(SERVED, startup, config).baseline.entries.keys(),
    ]
    expect(names(routed('split'))).toEqual(['application_name'])
    expect(names(plain())).toEqual(['application_name', 'pgsteer.min_lsn'])
    const { baseline } = new WelcomeCache().find(SERVED, startup, routed('split'))
    expect(baseline.entries.get('application_name')).toContain("'x - 127.0.0.1:5'")
  })

  it('forgets rather than grow without bound', () => {
    const cache = new WelcomeCache()
    const first = cache.find(SERVED, new Map([['application_name', 'first']]), plain())
    for (let number = 0; number < 100; number += 1)
      cache.find(SERVED, new Map([['application_name', `${number}`]]), plain())
    const again = cache.find(SERVED, new Map([['application_name', 'first']]), plain())
    expect(again).not.toBe(first)
    expect(again.head).toEqual(first.head)
  })

  it('does not remember long startup packets', () => {
    const cache = new WelcomeCache()
    const startup = new Map([['application_name', 'x'.repeat(2000)]])
    expect(cache.find(SERVED, startup, plain())).not.toBe(cache.find(SERVED, startup, plain()))
  })

  it('ends with the key, the notice if there is one, and ReadyForQuery', () => {
    const welcome = new WelcomeCache().find(SERVED, new Map(), plain())
    expect(types(welcomeFrames(welcome, KEY, null))).toBe('RSSSKZ')
    expect(types(welcomeFrames(welcome, KEY, ''))).toBe('RSSSKZ')
    expect(types(welcomeFrames(welcome, KEY, 'hello'))).toBe('RSSSKNZ')
  })
})
