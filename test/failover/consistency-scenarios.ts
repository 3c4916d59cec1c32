/**
 * What reads see across a failover of a real Patroni cluster: the four consistencies, by database,
 * and positions that one instance of pgsteer tells and another one is asked for.
 */
import type { Client } from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Installation, PatroniCluster } from '../support/patroni.ts'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { settled, startCluster, startSteer, synchronous } from './steer-cluster.ts'

const MODES = ['session', 'eventual', 'global', 'primary'] as const
type Mode = (typeof MODES)[number]

/** In flight when the old primary went. */
const IN_FLIGHT = new Set(['40001', '08007'])
/** Statements of each before the switchover and after it. */
const STATEMENTS = 40

/** A cluster and two instances of pgsteer, one after the other, on a machine with other work. */
const START_MS_MAX = 400_000

interface Answer {
  /** What had been acknowledged to the writer when the read began. */
  readonly acknowledged: number
  readonly seen: number
  readonly port: number
}

export function consistencyScenarios(installation: () => Installation): void {
  let cluster: PatroniCluster
  let steers: Steer[] = []

  beforeAll(async () => {
    cluster = await startCluster({
      installation: installation(),
      dynamic: { synchronous_mode: true },
    })
    const databases = MODES.map((mode) => `${mode} = dbname=demo consistency=${mode}`)
    const options = { databases: ['* =', ...databases].join('\n') }
    steers = [
      await startSteer(cluster, 'etcd', options),
      await startSteer(cluster, 'etcd', options),
    ]
    for (const steer of steers) await settled(steer, cluster.members.length - 1)
    await synchronous(cluster)
  }, START_MS_MAX)
  afterAll(async () => {
    await Promise.all(steers.map((steer) => steer.stop()))
    await cluster?.stop()
  })

  test('each consistency keeps its promise, and a token is honoured on the next timeline', async () => {
    const [near, far] = steers
    if (near === undefined || far === undefined) throw new Error('two instances')
    const writer = await near.connect({ database: 'session' })
    await writer.query('CREATE TABLE counted (n int); INSERT INTO counted VALUES (0)')
    const state = { acknowledged: 0, isOver: false }
    const answers: Record<Mode, Answer[]> = { session: [], eventual: [], global: [], primary: [] }
    const failed: Record<Mode, string[]> = { session: [], eventual: [], global: [], primary: [] }

    const read = async (client: Client, mode: Mode): Promise<void> => {
      const { acknowledged } = state
      try {
        const { rows } = await client.query('SELECT n, inet_server_port() AS port FROM counted')
        answers[mode].push({ acknowledged, seen: rows[0].n, port: rows[0].port })
      } catch (error) {
        failed[mode].push(sqlstateOf(error))
      }
    }
    const write = async (): Promise<void> => {
      try {
        const { rows } = await writer.query('UPDATE counted SET n = n + 1 RETURNING n')
        state.acknowledged = rows[0].n
        await read(writer, 'session')
      } catch (error) {
        failed.session.push(sqlstateOf(error))
      }
    }
    const readers = await Promise.all(
      MODES.slice(1).map(async (mode) => {
        const client = await far.connect({ database: mode })
        return async (): Promise<void> => {
          while (!state.isOver) await read(client, mode)
        }
      }),
    )
    /** So many more of each from now on: one that nothing stops is far ahead of the others. */
    const more = (): Promise<true> => {
      const from = new Map(MODES.map((mode) => [mode, answers[mode].length]))
      const isThere = (mode: Mode): boolean =>
        answers[mode].length >= (from.get(mode) ?? 0) + STATEMENTS
      return waitFor('answers of each', () => MODES.every(isThere), { withinMs: 60_000 })
    }
    const writing = (async () => {
      while (!state.isOver) await write()
    })()
    const running = [writing, ...readers.map((run) => run())]

    await more()
    const before = await near.connect()
    const token = await shown(before)
    const old = (await cluster.leader()) ?? ''
    const oldPort = cluster.member(old).port
    await cluster.switchover()
    await waitFor(
      'writes on the next primary',
      async () => (await leaderPort(cluster)) !== oldPort,
      {
        withinMs: 60_000,
      },
    )
    await more()
    state.isOver = true
    await Promise.all(running)

    const newPort = await leaderPort(cluster)
    for (const mode of MODES)
      for (const each of failed[mode]) expect(IN_FLIGHT, mode).toContain(each)
    expect(failed.eventual, 'replicas went on').toEqual([])
    for (const mode of ['session', 'global', 'primary'] as const) {
      const stale = answers[mode].filter(({ acknowledged, seen }) => seen < acknowledged)
      expect(stale, `stale reads of ${mode}`).toEqual([])
    }
    const ports = new Set(answers.primary.map(({ port }) => port))
    expect(ports).toEqual(new Set([oldPort, newPort]))
    const back = answers.session.filter(
      ({ seen }, index, all) => seen < (all[index - 1]?.seen ?? 0),
    )
    expect(back, 'a session that went back in time').toEqual([])

    expect(token).toMatch(/^\d+:[0-9A-F]+\/[0-9A-F]+$/)
    const after = await shown(before)
    expect(timelineOf(after)).toBe(timelineOf(token) + 1)
    const late = await far.connect({ database: 'eventual', options: `-c pgsteer.min_lsn=${token}` })
    for (const asked of [token, after]) {
      await late.query(`SET pgsteer.min_lsn = '${asked}'`)
      expect((await late.query('SELECT n FROM counted')).rows).toHaveLength(1)
    }
    const beyond = `${timelineOf(token)}:FFFFFF/0`
    await expect(late.query(`SET pgsteer.min_lsn = '${beyond}'`)).rejects.toMatchObject({
      code: '08007',
      message: expect.stringContaining('may be lost') as unknown,
    })
    await Promise.all([writer.end(), before.end(), late.end()])
  })
}

async function shown(client: Client): Promise<string> {
  const { rows } = await client.query<{ 'pgsteer.lsn': string }>('SHOW pgsteer.lsn')
  return rows[0]?.['pgsteer.lsn'] ?? ''
}

function timelineOf(token: string): number {
  return Number(token.slice(0, token.indexOf(':')))
}

async function leaderPort(cluster: PatroniCluster): Promise<number> {
  const leader = await cluster.leader()
  return leader === null ? 0 : cluster.member(leader).port
}

/**
 * Errors  what is no answer of a server: whoever asks a connection that has ended again and again
 *         leaves no time to anything else.
 */
function sqlstateOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && /^[0-9A-Z]{5}$/.test(String(error.code)))
    return String(error.code)
  throw error
}
