/**
 * /metrics as Prometheus reads it: over a real socket, and checked by promtool.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { createLog } from '../../src/base/log.ts'
import { createApp } from '../../src/http/app.ts'
import { fakeActions } from '../support/actions.ts'
import { program } from '../support/debian.ts'
import { snapshotOf, workerFacts } from '../support/facts.ts'

let app: FastifyInstance
let url: string

beforeAll(async () => {
  app = createApp({
    actions: fakeActions(),
    clock: systemClock,
    log: createLog({ level: 'silent', format: 'json' }),
  })
  url = await app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(() => app.close())

/** What promtool says, and how it ends. */
async function promtool(text: string): Promise<{ output: string; status: unknown }> {
  const { file, args, env } = program('promtool')
  const child = spawn(file, [...args, 'check', 'metrics'], { env: { ...process.env, ...env } })
  let output = ''
  child.stdout.on('data', (bytes: Buffer) => (output += bytes.toString()))
  child.stderr.on('data', (bytes: Buffer) => (output += bytes.toString()))
  child.stdin.end(text)
  const [status] = await once(child, 'close')
  return { output, status: status as unknown }
}

it('promtool finds nothing to say about the metrics', async () => {
  const answer = await fetch(`${url}/metrics`)
  expect(await promtool(await answer.text())).toEqual({ output: '', status: 0 })
})

it('promtool finds nothing to say while nothing is known', async () => {
  const empty = createApp({
    actions: fakeActions({
      snapshotOf: () => snapshotOf({ workers: [workerFacts({ pools: [] })] }),
    }),
    clock: systemClock,
    log: createLog({ level: 'silent', format: 'json' }),
  })
  const { body } = await empty.inject('/metrics')
  expect(await promtool(body)).toEqual({ output: '', status: 0 })
})

it('promtool would have said it', async () => {
  const bad = '# HELP pgsteer_bad_ms x\n# TYPE pgsteer_bad_ms counter\npgsteer_bad_ms 1\n'
  const { output, status } = await promtool(bad)
  expect(output).toContain('_total')
  expect(status).not.toBe(0)
})

it('headers that are too big are refused', async () => {
  const answer = await fetch(`${url}/livez`, { headers: { 'x-big': 'x'.repeat(20_000) } })
  expect(answer.status).toBe(431)
})

it('what is not HTTP is refused', async () => {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.end('\0\0\0\x08\x04\xd2\x16\x2f')
  const [bytes] = await once(socket, 'data', { signal: AbortSignal.timeout(10_000) })
  expect(String(bytes)).toContain('400 Bad Request')
})
