import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { alertsPage, PAGE } from '../../../scripts/docs-alerts.ts'

test('docs/alerts.md is what scripts/docs-alerts.ts makes of the rules', () => {
  expect(readFileSync(PAGE, 'utf8')).toBe(alertsPage())
})
