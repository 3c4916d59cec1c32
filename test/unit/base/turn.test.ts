/** Time stands still while one piece of what arrived is worked on, and no longer. */
import { expect, it } from 'vitest'
import { beginTurn, endTurn, systemClock } from '../../../src/base/clock.ts'

function nextMs(afterMs: number): number {
  let nowMs = systemClock.nowMs()
  while (nowMs <= afterMs) nowMs = systemClock.nowMs()
  return nowMs
}

it('is read once in a turn, and goes on behind it', () => {
  const beforeMs = systemClock.nowMs()
  const passedMs = nextMs(beforeMs)
  beginTurn()
  const first = systemClock.nowMs()
  for (let step = 0; step < 1000; step += 1) expect(systemClock.nowMs()).toBe(first)
  endTurn()
  expect(first).toBeGreaterThanOrEqual(passedMs)
  expect(nextMs(first)).toBeGreaterThan(first)
})

it('is read anew in the next turn', () => {
  beginTurn()
  const first = systemClock.nowMs()
  endTurn()
  nextMs(first)
  beginTurn()
  const second = systemClock.nowMs()
  endTurn()
  expect(second).toBeGreaterThan(first)
})
