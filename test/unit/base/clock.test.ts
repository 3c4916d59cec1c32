import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { systemClock, within } from '../../../src/base/clock.ts'
import { FakeClock } from '../../support/clock.ts'

const CLOCK = join(import.meta.dirname, '../../../src/base/clock.ts')

test('every process reads the same clock, however slow its start was', () => {
  const readings = Array.from({ length: 5 }, () => {
    const before = systemClock.nowMs()
    const script = `import(${JSON.stringify(CLOCK)}).then(({ systemClock }) => {
      const hrtimeMs = Number(process.hrtime.bigint()) / 1e6
      console.log(systemClock.nowMs(), hrtimeMs)
    })`
    const child = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' })
    const [nowMs = 0, hrtimeMs = 0] = child.stdout.trim().split(' ').map(Number)
    expect(nowMs).toBeGreaterThan(before)
    expect(nowMs).toBeLessThan(systemClock.nowMs())
    return Math.abs(nowMs - hrtimeMs)
  })
  // Two readings in a row may be far apart on a busy machine, but not each time.
  expect(Math.min(...readings)).toBeLessThan(0.2)
})

test('work within a deadline is what it comes to, and leaves no timer', async () => {
  const clock = new FakeClock()
  await expect(within(Promise.resolve(7), clock, 100, 'late')).resolves.toBe(7)
  const failed = Promise.reject(new Error('broken'))
  await expect(within(failed, clock, 100, 'late')).rejects.toThrow('broken')
  expect(clock.timers).toBe(0)
})

test('work that is late is given up at the deadline, and its failure disturbs nobody', async () => {
  const clock = new FakeClock()
  const { promise, reject } = Promise.withResolvers<never>()
  const ended = expect(within(promise, clock, 100, 'too late')).rejects.toThrow('too late')
  clock.advance(100)
  await ended
  reject(new Error('broken'))
})
