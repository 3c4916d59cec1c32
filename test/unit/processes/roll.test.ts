/** The replacement of all workers: its order, and what ends it. */
import { describe, expect, test } from 'vitest'
import { freeNumber, mayFollow, Roll } from '../../../src/roll.ts'

/** Processes that are there at once, unless the test holds them. */
class Crew {
  readonly calls: string[] = []
  taken = [0, 1, 2]
  readonly gone = new Set<number>()
  succeedBy = (_worker: number): Promise<void> => Promise.resolve()
  dismissBy = (_worker: number): Promise<void> => Promise.resolve()
  readonly roll = new Roll({
    taken: () => this.taken,
    isThere: (worker) => !this.gone.has(worker),
    succeed: async (worker, successor) => {
      this.calls.push(`${worker} -> ${successor}`)
      await this.succeedBy(worker)
      this.taken = [...this.taken, successor]
    },
    dismiss: async (worker) => {
      this.calls.push(`${worker} leaves`)
      await this.dismissBy(worker)
      this.taken = this.taken.filter((number) => number !== worker)
    },
    onChange: () => undefined,
  })
}

describe('workers are replaced', () => {
  test('one after the other, each by the number that is free', async () => {
    const crew = new Crew()
    const { first, end } = crew.roll.begin()
    await first
    expect(await end).toBe(true)
    expect(crew.calls).toEqual(['0 -> 3', '0 leaves', '1 -> 0', '1 leaves', '2 -> 1', '2 leaves'])
    expect(new Set(crew.taken)).toEqual(new Set([0, 1, 3]))
    expect(crew.roll.facts).toEqual({ isRunning: false, replaced: 3, failure: null })
  })

  test('again, from whatever numbers they have then', async () => {
    const crew = new Crew()
    await crew.roll.begin().end
    expect(await crew.roll.begin().end).toBe(true)
    expect(crew.taken).toHaveLength(3)
  })

  test('and one that has ended meanwhile is left out', async () => {
    const crew = new Crew()
    crew.gone.add(1)
    expect(await crew.roll.begin().end).toBe(true)
    expect(crew.calls).toEqual(['0 -> 3', '0 leaves', '2 -> 0', '2 leaves'])
  })

  test('none serves before the one before it has left', async () => {
    const crew = new Crew()
    const held = Promise.withResolvers<void>()
    crew.dismissBy = () => held.promise
    const { first, end } = crew.roll.begin()
    await first
    expect(crew.calls).toEqual(['0 -> 3', '0 leaves'])
    crew.dismissBy = () => Promise.resolve()
    held.resolve()
    expect(await end).toBe(true)
  })
})

describe('it ends', () => {
  test('at the first successor that does not serve, with all others as they were', async () => {
    const crew = new Crew()
    crew.succeedBy = () => Promise.reject(new Error('exit code 1'))
    const { first, end } = crew.roll.begin()
    await expect(first).rejects.toThrow('exit code 1')
    expect(await end).toBe(false)
    expect(crew.calls).toEqual(['0 -> 3'])
    expect(crew.roll.facts).toEqual({ isRunning: false, replaced: 0, failure: 'exit code 1' })
  })

  test('at a later one, when the command has been answered', async () => {
    const crew = new Crew()
    crew.succeedBy = (worker) =>
      worker === 1 ? Promise.reject(new Error('exit code 1')) : Promise.resolve()
    const { first, end } = crew.roll.begin()
    await first
    expect(await end).toBe(false)
    expect(crew.calls).toEqual(['0 -> 3', '0 leaves', '1 -> 0'])
    expect(crew.roll.facts).toMatchObject({ replaced: 1, failure: 'exit code 1' })
  })

  test('when the program stops, and none begins then', async () => {
    const crew = new Crew()
    crew.dismissBy = () => {
      crew.roll.stop('shutting down')
      return Promise.resolve()
    }
    const { first, end } = crew.roll.begin()
    await first
    expect(await end).toBe(false)
    expect(crew.calls).toEqual(['0 -> 3', '0 leaves'])
    expect(() => crew.roll.begin()).toThrow('shutting down')
  })
})

test('a second one is refused while one is under way, and possible after a failure', async () => {
  const crew = new Crew()
  const held = Promise.withResolvers<void>()
  crew.succeedBy = () => held.promise
  const { first, end } = crew.roll.begin()
  expect(() => crew.roll.begin()).toThrow('already')
  held.reject(new Error('no'))
  await expect(first).rejects.toThrow('no')
  await end
  crew.succeedBy = () => Promise.resolve()
  expect(await crew.roll.begin().end).toBe(true)
})

test('the free number is the lowest that nobody has', () => {
  expect(freeNumber([0, 1])).toBe(2)
  expect(freeNumber([2, 0])).toBe(1)
  expect(freeNumber([])).toBe(0)
})

test('workers follow within a minor version, up and down', () => {
  expect(mayFollow('1.4.2', '1.4.9')).toBe(true)
  expect(mayFollow('1.4.2', '1.4.0')).toBe(true)
  expect(mayFollow('1.4.2', '1.5.0')).toBe(false)
  expect(mayFollow('1.4.2', '2.4.2')).toBe(false)
})
