import type { FastifyInstance } from 'fastify'
import { describe, expect, it, vi } from 'vitest'
import type { Actions } from '../../../src/admin/commands.ts'
import { createLog } from '../../../src/base/log.ts'
import type { Config } from '../../../src/config/config.ts'
import { createApp } from '../../../src/http/app.ts'
import { type FakeActions, fakeActions } from '../../support/actions.ts'
import { FakeClock } from '../../support/clock.ts'
import { snapshotOf, topology } from '../../support/facts.ts'

const TOKEN = 'correct-horse'
const log = createLog({ level: 'silent', format: 'json' })

function withTokenFile(): Config {
  return { ...snapshotOf().config, httpToken: TOKEN }
}

function appWith(
  some: Parameters<typeof fakeActions>[0] = {},
  clock = new FakeClock(),
): {
  readonly app: FastifyInstance
  readonly actions: FakeActions
} {
  const actions = fakeActions({ config: withTokenFile, ...some })
  return { app: createApp({ actions, clock, log }), actions }
}

const withToken = { authorization: `Bearer ${TOKEN}` }

describe('health', () => {
  const lost = topology({ primary: null, missing: 'pg1 does not answer' })
  const nobody = topology({ primary: null, missing: 'nobody answers', members: [] })

  it.each([
    ['/livez', topology(), 200],
    ['/livez', nobody, 200],
    ['/readyz', topology(), 200],
    ['/readyz', lost, 200],
    ['/readyz', nobody, 503],
    ['/primary', topology(), 200],
    ['/primary', lost, 503],
    ['/replica', topology(), 200],
    ['/replica', nobody, 503],
    ['/read-only', lost, 200],
    ['/read-only', nobody, 503],
  ])('%s', async (url, seen, status) => {
    const { app } = appWith({ snapshotOf: () => snapshotOf({ topology: seen }) })
    for (const method of ['GET', 'HEAD'] as const) {
      expect((await app.inject({ method, url })).statusCode).toBe(status)
    }
  })

  it('answers OPTIONS, which HAProxy asks with', async () => {
    const { app } = appWith()
    expect((await app.inject({ method: 'OPTIONS', url: '/primary' })).statusCode).toBe(200)
  })

  it('says why as JSON', async () => {
    const { app } = appWith({ snapshotOf: () => snapshotOf({ topology: lost }) })
    expect((await app.inject('/primary')).json()).toEqual({
      can: false,
      reason: 'no primary: pg1 does not answer',
      primary: null,
    })
    expect((await app.inject('/readyz')).json()).toMatchObject({
      isReady: true,
      write: { can: false },
      read: { can: true, reason: '' },
    })
  })

  it('is 503 and alive when no facts can be had', async () => {
    const { app } = appWith({
      snapshot: () => Promise.reject(new Error('no worker answered in time')),
    })
    const ready = await app.inject('/readyz')
    expect(ready.statusCode).toBe(503)
    expect(ready.json()).toMatchObject({ error: expect.stringContaining('no worker answered') })
    expect((await app.inject('/livez')).statusCode).toBe(200)
  })
})

describe('what is read', () => {
  it('/api/cluster is the topology with the servers of every member', async () => {
    const { app } = appWith()
    const cluster = (await app.inject('/api/cluster')).json()
    expect(cluster).toMatchObject({
      version: '0.1.0',
      term: 5,
      primary: 'pg1',
      timeline: 3,
      source: { kind: 'static', state: 'connected' },
      members: [
        { name: 'pg1', role: 'primary', writeLsn: '16/B374D848', servers: { idle: 2 } },
        { name: 'pg2', lagBytes: 55_368, isEligible: true },
        { name: 'pg3', isEligible: false, ineligibleReason: 'lag_bytes', servers: null },
      ],
      workers: [{ worker: 0, processId: 1001 }],
    })
  })

  it('/api/pools has pools, databases and totals', async () => {
    const { app } = appWith()
    expect((await app.inject('/api/pools')).json()).toMatchObject({
      isPaused: false,
      clientsMax: 500,
      pools: [
        { database: 'app', user: 'alice', clientsActive: 1, serversIdle: 4 },
        { database: 'pgbouncer' },
      ],
      databases: [{ limits: { name: 'app' }, stats: { queries: 10 } }, {}, {}],
      routesByReason: { read: 6, write: 4 },
    })
  })

  it('shows no secret', async () => {
    const { app } = appWith()
    for (const url of ['/', '/api/cluster', '/api/pools', '/metrics', '/readyz']) {
      const { body } = await app.inject(url)
      expect(body).not.toContain('geheim')
      expect(body).not.toContain(TOKEN)
    }
  })

  it('/metrics is Prometheus text', async () => {
    const { app } = appWith()
    const { headers, body } = await app.inject('/metrics')
    expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(body).toContain('pgsteer_cluster_term 5')
  })

  it('/ is a page that may run nothing but its own script', async () => {
    const { app } = appWith()
    const { headers, body } = await app.inject('/')
    expect(headers['content-type']).toBe('text/html; charset=utf-8')
    expect(headers['content-security-policy']).toContain("default-src 'none'; script-src 'sha256-")
    expect(headers['x-content-type-options']).toBe('nosniff')
    expect(body).not.toMatch(/(?:src|href)="(?:https?:)?\/\//)
    expect(body).not.toContain('innerHTML')
  })
})

describe('what changes something', () => {
  it.each([
    ['/api/reload', undefined, 'reload'],
    ['/api/pause', undefined, 'pause'],
    ['/api/pause', {}, 'pause'],
    ['/api/pause', { database: 'app' }, 'pause app'],
  ])('POST %s %j', async (url, payload, call) => {
    const { app, actions } = appWith()
    const body = payload === undefined ? {} : { payload }
    const answer = await app.inject({ method: 'POST', url, headers: withToken, ...body })
    expect(answer.statusCode).toBe(200)
    expect(answer.json()).toMatchObject({ status: 'done' })
    expect(actions.calls).toEqual([call])
  })

  it.each([
    [undefined, 'drain'],
    [{}, 'drain'],
    [{ member: 'pg1' }, 'drain pg1'],
  ])('POST /api/drain %j says what came of it', async (payload, call) => {
    const { app, actions } = appWith()
    const body = payload === undefined ? {} : { payload }
    const url = '/api/drain'
    const answer = await app.inject({ method: 'POST', url, headers: withToken, ...body })
    expect(answer.statusCode).toBe(200)
    expect(answer.json()).toEqual({ holds: true, writes: 0, waitedMs: 1 })
    expect(actions.calls).toEqual([call])
  })

  it('does not drain whoever is the primary because of a body that says something else', async () => {
    const { app, actions } = appWith()
    for (const payload of [{ membre: 'pg1' }, { member: 'pg1', x: 1 }, { database: 'app' }]) {
      const sent = { method: 'POST', url: '/api/drain', headers: withToken, payload } as const
      expect((await app.inject(sent)).statusCode).toBe(400)
    }
    expect(actions.calls).toEqual([])
  })

  it('POST /api/resume ends what POST /api/pause began', async () => {
    const { app, actions } = appWith()
    await app.inject({ method: 'POST', url: '/api/pause', headers: withToken })
    const resumed = await app.inject({ method: 'POST', url: '/api/resume', headers: withToken })
    expect(resumed.statusCode).toBe(200)
    expect(actions.calls).toEqual(['pause', 'resume'])
  })

  it.each([
    ['no token', {}],
    ['a wrong token', { authorization: 'Bearer correct-horsf' }],
    ['a token of another length', { authorization: 'Bearer x' }],
    ['an empty token', { authorization: 'Bearer ' }],
    ['another scheme', { authorization: `Basic ${TOKEN}` }],
  ])('is refused with %s, before the body is looked at', async (_, headers) => {
    const { app, actions } = appWith()
    for (const url of ['/api/reload', '/api/pause', '/api/resume', '/api/drain']) {
      const answer = await app.inject({ method: 'POST', url, headers, payload: { nonsense: 1 } })
      expect(answer.statusCode).toBe(401)
      expect(answer.headers['www-authenticate']).toBe('Bearer')
    }
    expect(actions.calls).toEqual([])
  })

  it('is refused for everybody without http_token_file', async () => {
    const { app, actions } = appWith({ config: () => snapshotOf().config })
    const answer = await app.inject({ method: 'POST', url: '/api/pause', headers: withToken })
    expect(answer.statusCode).toBe(403)
    expect(answer.json()).toEqual({ error: expect.stringContaining('http_token_file') })
    expect(actions.calls).toEqual([])
  })

  it('is refused for everybody with an empty token', async () => {
    const { app, actions } = appWith({ config: () => ({ ...snapshotOf().config, httpToken: '' }) })
    for (const authorization of ['Bearer ', 'Bearer', '']) {
      const headers = { authorization }
      const answer = await app.inject({ method: 'POST', url: '/api/pause', headers })
      expect(answer.statusCode).toBe(401)
    }
    expect(actions.calls).toEqual([])
  })

  it.each([
    [{ databse: 'app' }],
    [{ database: 5 }],
    [{ database: '' }],
    [{ database: 'app', x: 1 }],
    [['app']],
  ])('does not pause everything because of the body %j', async (payload) => {
    const { app, actions } = appWith()
    const answer = await app.inject({
      method: 'POST',
      url: '/api/pause',
      headers: withToken,
      payload,
    })
    expect(answer.statusCode).toBe(400)
    expect(actions.calls).toEqual([])
  })

  it('passes on what the console would say', async () => {
    const { app } = appWith()
    const answer = await app.inject({ method: 'POST', url: '/api/resume', headers: withToken })
    expect(answer.statusCode).toBe(409)
    expect(answer.json()).toMatchObject({
      error: 'pooler is not paused/suspended',
      sqlstate: '55000',
    })
  })

  it('says what is wrong with a configuration that cannot be loaded', async () => {
    const { app } = appWith({
      reload: () => Promise.reject(new Error('line 3: unknown key')),
    })
    const answer = await app.inject({ method: 'POST', url: '/api/reload', headers: withToken })
    expect(answer.statusCode).toBe(409)
    expect(answer.json()).toMatchObject({ detail: 'line 3: unknown key' })
  })

  it('does not wait for ever', async () => {
    const clock = new FakeClock()
    const pause = vi.fn<Actions['pause']>(() => new Promise(() => undefined))
    const { app } = appWith({ pause }, clock)
    const waiting = app.inject({ method: 'POST', url: '/api/pause', headers: withToken })
    await expect.poll(() => pause.mock.calls.length).toBe(1)
    clock.advance(60_000)
    expect((await waiting).statusCode).toBe(202)
  })
})

describe('what does not exist', () => {
  it('is 404 as JSON', async () => {
    const answer = await appWith().app.inject('/nothing?x=1')
    expect(answer.statusCode).toBe(404)
    expect(answer.json()).toEqual({ error: 'no such path: /nothing' })
  })

  it.each([
    ['GET', '/api/pause', 'POST'],
    ['DELETE', '/api/cluster', 'GET, HEAD'],
    ['POST', '/metrics', 'GET, HEAD'],
  ] as const)('%s %s is 405 and says what is allowed', async (method, url, allow) => {
    const answer = await appWith().app.inject({ method, url })
    expect(answer.statusCode).toBe(405)
    expect(answer.headers['allow']).toBe(allow)
  })
})

it('bounds bodies', async () => {
  const { app } = appWith()
  const answer = await app.inject({
    method: 'POST',
    url: '/api/pause',
    headers: withToken,
    payload: { database: 'x'.repeat(5000) },
  })
  expect(answer.statusCode).toBe(413)
})
