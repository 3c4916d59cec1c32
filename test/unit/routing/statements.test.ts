/** The cache of texts: bounded, forgetful with the catalogue, and it keeps what replicas taught. */
import { describe, expect, test } from 'vitest'
import { type Catalogue, EMPTY_CATALOGUE } from '../../../src/routing/catalogue.ts'
import { Statements } from '../../../src/routing/statements.ts'
import { CATALOGUE } from './oracle.ts'

function filled(statementsMax = 10): Statements {
  const statements = new Statements(statementsMax)
  statements.setCatalogue(CATALOGUE)
  return statements
}

/** A text is kept at its second sight. */
function keep(statements: Statements, text: string): ReturnType<Statements['classify']> {
  statements.classify(text)
  return statements.classify(text)
}

describe('a text', () => {
  test('is kept at its second sight and not judged a third time', () => {
    const statements = filled()
    const second = keep(statements, 'select 1')
    expect(statements.classify('select 1')).toBe(second)
  })

  test('that comes once is not kept', () => {
    const statements = filled()
    for (let i = 0; i < 100; i += 1) statements.classify(`select ${i} from t`)
    expect(statements.size).toBe(0)
  })

  test('is kept while it is used, whatever else passes', () => {
    const statements = filled()
    const first = keep(statements, 'select 1')
    for (let i = 0; i < 100; i += 1) {
      keep(statements, `select ${i} from t`)
      expect(statements.classify('select 1')).toBe(first)
    }
  })

  test('is forgotten when others are used instead', () => {
    const statements = filled()
    const first = keep(statements, 'select 1')
    for (let i = 0; i < 20; i += 1) keep(statements, `select ${i} from t`)
    expect(statements.classify('select 1')).not.toBe(first)
  })

  test('is never one of more than the bound', () => {
    const statements = filled()
    for (let i = 0; i < 100; i += 1) {
      keep(statements, `select ${i % 13}`)
      expect(statements.size).toBeLessThanOrEqual(10)
    }
  })

  test('is kept also where there is hardly room', () => {
    const statements = filled(1)
    const kept = keep(statements, 'select 1')
    expect(statements.classify('select 1')).toBe(kept)
    keep(statements, 'select 2')
    keep(statements, 'select 3')
    expect(statements.size).toBeLessThanOrEqual(2)
  })

  test('is counted once, also when it is used again', () => {
    const statements = filled()
    for (const text of ['1', '2', '3', '4', '5', '6', '1']) keep(statements, `select ${text}`)
    expect(statements.size).toBe(6)
  })

  test('is not kept when it is long', () => {
    const statements = filled()
    keep(statements, `select '${'x'.repeat(70_000)}'`)
    expect(statements.size).toBe(0)
  })

  test('is kept only as long as all texts together are not too long', () => {
    const statements = filled(100_000)
    for (let i = 0; i < 600; i += 1) keep(statements, `select ${i}, '${'x'.repeat(60_000)}'`)
    expect(statements.size).toBeLessThan(560)
  })

  test('that a replica refused is no read until the catalogue changes', () => {
    const statements = filled()
    statements.learnPrimaryOnly('select * from v')
    expect(statements.classify('select * from v')).toMatchObject({ read: false, reason: 'learnt' })
    statements.setCatalogue(CATALOGUE)
    expect(statements.classify('select * from v').read).toBe(false)
    statements.setCatalogue({ ...CATALOGUE, serial: CATALOGUE.serial + 1 })
    expect(statements.classify('select * from v').read).toBe(true)
  })

  test('took so long under this catalogue, and may take longer under another', () => {
    const statements = filled()
    statements.latencies.observe(1, 5)
    statements.setCatalogue(CATALOGUE)
    expect(statements.latencies.size).toBe(1)
    statements.setCatalogue({ ...CATALOGUE, serial: CATALOGUE.serial + 1 })
    expect(statements.latencies.size).toBe(0)
  })

  test('that is no read anyway keeps its own reason', () => {
    const statements = filled()
    statements.learnPrimaryOnly('delete from t')
    expect(statements.classify('delete from t').reason).toBe('verb')
  })

  test('is judged again by every new catalogue', () => {
    const statements = new Statements(10)
    expect(statements.classify('select now()').read).toBe(false)
    statements.setCatalogue(CATALOGUE)
    expect(statements.classify('select now()').read).toBe(true)
    const none: Catalogue = { ...EMPTY_CATALOGUE, serial: CATALOGUE.serial + 1 }
    statements.setCatalogue(none)
    expect(statements.classify('select now()').read).toBe(false)
  })
})
