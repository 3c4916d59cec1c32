/** Which names a catalogue proves. */
import { describe, expect, test } from 'vitest'
import { catalogueOf, EMPTY_CATALOGUE, factsOf } from '../../../src/routing/catalogue.ts'

const ROWS = [
  { name: 'lower', is_volatile: false, is_user: false },
  { name: 'random', is_volatile: true, is_user: false },
  { name: 'clock_timestamp', is_volatile: true, is_user: true },
  { name: 'nextval', is_volatile: true, is_user: false },
  { name: 'mine', is_volatile: false, is_user: true },
  { name: 'audit', is_volatile: true, is_user: true },
]

describe('a name is harmless', () => {
  const catalogue = catalogueOf(factsOf('app', 7, ROWS))

  test('when no function of it is VOLATILE, whoever made it', () => {
    expect([catalogue.isHarmless('lower'), catalogue.isHarmless('mine')]).toEqual([true, true])
  })

  test('when it is VOLATILE but known to read only, and nobody made another', () => {
    expect([catalogue.isHarmless('random'), catalogue.isHarmless('clock_timestamp')]).toEqual([
      true,
      false,
    ])
  })

  test('but not when it is VOLATILE, and not when it is unknown', () => {
    expect([
      catalogue.isHarmless('nextval'),
      catalogue.isHarmless('audit'),
      catalogue.isHarmless('uuidv7'),
    ]).toEqual([false, false, false])
  })

  test('and not before there is a catalogue', () => {
    expect([EMPTY_CATALOGUE.isHarmless('lower'), EMPTY_CATALOGUE.exists('x')]).toEqual([
      false,
      true,
    ])
  })

  test('by facts that survive a journey as JSON', () => {
    const facts: unknown = JSON.parse(JSON.stringify(factsOf('app', 7, ROWS)))
    expect(facts).toEqual(factsOf('app', 7, ROWS))
    expect([
      catalogue.database,
      catalogue.serial,
      catalogue.isBuiltin('nextval'),
      catalogue.isBuiltin('mine'),
      catalogue.exists('mine'),
      catalogue.exists('none'),
    ]).toEqual(['app', 7, true, false, true, false])
  })
})
