import { afterAll, expect, test } from 'vitest'
import { FakeSwarm, removeFolders } from './swarm.ts'

afterAll(removeFolders)

const IMAGES = ['--set', 'NODE_IMAGE=node:1', '--set', 'PGSTEER_IMAGE=pgsteer:1']
/** When the Swarm's clock stands. */
const NOW_MS = Date.UTC(2026, 10, 23)

async function deployed(): Promise<FakeSwarm> {
  const swarm = new FakeSwarm()
  await swarm.cluster('init', 'main', ...IMAGES)
  await swarm.cluster('up')
  return swarm
}

test("status leaves the job of somebody else's command alone, which still waits for it", async () => {
  const swarm = await deployed()
  swarm.jobsLeft.set('main_job-facts-abc123', NOW_MS + 1000)
  expect(await swarm.cluster('status')).toBe(0)
  expect(swarm.commands).not.toContain('service rm main_job-facts-abc123')
})

test('a job that nobody waits for any more is removed by the next one of its kind', async () => {
  const swarm = await deployed()
  swarm.jobsLeft.set('main_job-facts-abc123', NOW_MS - 1000)
  swarm.jobsLeft.set('main_job-backup-abc123', NOW_MS - 1000)
  expect(await swarm.cluster('status')).toBe(0)
  expect(swarm.commands).toContain('service rm main_job-facts-abc123')
  expect(swarm.commands).not.toContain('service rm main_job-backup-abc123')
})

test('a second backup does not end the first: it says that one runs, and how to follow it', async () => {
  const swarm = await deployed()
  swarm.jobsLeft.set('main_job-backup-abc123', NOW_MS + 1000)
  expect(await swarm.cluster('backup')).toBe(1)
  expect(swarm.text).toContain('main_job-backup-abc123 runs')
  expect(swarm.text).toContain('docker service logs --follow main_job-backup-abc123')
  expect(swarm.jobs).toEqual([])
  swarm.jobsLeft.clear()
  expect(await swarm.cluster('backup')).toBe(0)
})

test('a job says until when its command waits for it, with room for clocks that differ', async () => {
  const swarm = await deployed()
  await swarm.cluster('status')
  const [, untilMs] = /pgsteer\.until=(\d+) /.exec(swarm.commands.join('\n')) ?? []
  expect(Number(untilMs)).toBe(NOW_MS + 120_000 + 600_000)
})
