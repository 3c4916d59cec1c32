/**
 * What Patroni 4.0 of Debian 13 says and does not say before its primary changes: the before_stop
 * hook as operators install it, and a Patroni that is frozen beside a PostgreSQL that works on.
 */
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { settled, startCluster, startSteer } from '../failover/steer-cluster.ts'
import { Load } from '../failover/steer-load.ts'
import { debian13, type PatroniCluster } from '../support/patroni.ts'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const TOKEN = 'of-the-sidecar'
const SCRIPT = resolve(import.meta.dirname, '../../deploy/patroni-before-stop')

let cluster: PatroniCluster
let folder = ''
let stack = new AsyncDisposableStack()

/** The hook in a folder that Patroni sees; whom it calls is written when pgsteer has its port. */
beforeAll(async () => {
  const { root } = debian13()
  const temporary = join(root ?? '', 'tmp')
  mkdirSync(temporary, { recursive: true })
  folder = mkdtempSync(join(temporary, 'pgsteer-hook-'))
  const inner = folder.slice((root ?? '').length)
  copyFileSync(SCRIPT, join(folder, 'hook'))
  writeFileSync(join(folder, 'token'), `${TOKEN}\n`)
  const call = `exec ${inner}/hook "$1" "$(cat ${inner}/urls)" ${inner}/token`
  writeFileSync(join(folder, 'run'), `#!/bin/sh\n${call}\n`)
  for (const file of ['', 'hook', 'run']) chmodSync(join(folder, file), 0o755)
  cluster = await startCluster({
    installation: debian13(),
    postgresql: (name) => ({ before_stop: `${inner}/run ${name}` }),
  })
})
afterEach(async () => {
  await stack.disposeAsync()
  stack = new AsyncDisposableStack()
})
afterAll(async () => {
  await cluster?.stop()
  rmSync(folder, { recursive: true, force: true })
})

async function begin(prefix: string): Promise<{ steer: Steer; load: Load; primary: number }> {
  const steer = await startSteer(cluster, 'etcd', {
    pgsteer: { http_token_file: join(folder, 'token'), switchover_grace_ms: 0 },
  })
  stack.defer(() => steer.stop())
  writeFileSync(join(folder, 'urls'), `http://127.0.0.1:${steer.httpPort}`)
  const primary = await settled(steer, 2)
  const load = new Load(steer, prefix)
  load.start()
  stack.defer(() => load.stop())
  await load.resumed(0)
  return { steer, load, primary }
}

test('a planned switchover with the hook fails no statement and drops no connection', async () => {
  const { steer, load, primary } = await begin('hook')
  await cluster.switchover()
  const after = await waitFor('the next primary', async () => {
    const port = await settled(steer, 2)
    return port === primary ? undefined : port
  })
  await load.resumed(performance.now())
  await load.stop()
  expect(load.failed).toEqual([])
  expect(load.refused).toEqual([])
  expect(load.unseen).toEqual([])
  expect(load.acknowledged.at(-1)?.port).toBe(after)
  expect(steer.log).toContain('drained for a planned stop of the primary')
})

test('Patroni frozen, PostgreSQL alive: nothing is acknowledged by the old side once another leads', async () => {
  const { load, primary } = await begin('frozen')
  const name = cluster.members.find(({ port }) => port === primary)?.name ?? ''
  await cluster.signal(name, 'SIGSTOP')
  stack.defer(() => cluster.signal(name, 'SIGCONT'))
  const another = async (): Promise<true | undefined> => {
    const leader = await cluster.leader()
    return leader !== null && leader !== name ? true : undefined
  }
  await waitFor('another leader', another, { withinMs: 60_000, everyMs: 10 })
  const sinceMs = performance.now()
  await load.resumed(sinceMs)
  await load.stop()
  const late = load.acknowledged.filter((write) => write.endedMs > sinceMs)
  expect(late.filter((write) => write.port === primary)).toEqual([])
  expect(late.length).toBeGreaterThan(0)
})
