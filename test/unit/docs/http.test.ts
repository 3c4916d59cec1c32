import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createLog } from '../../../src/base/log.ts'
import { createApp } from '../../../src/http/app.ts'
import { fakeActions } from '../../support/actions.ts'
import { FakeClock } from '../../support/clock.ts'

const page = readFileSync(join(import.meta.dirname, '../../../docs/http.md'), 'utf8')
const log = createLog({ level: 'silent', format: 'json' })

/** `GET /livez` and so on, without the methods that are the same for all. */
function routes(): string[] {
  const found: string[] = []
  const app = createApp({
    actions: fakeActions(),
    clock: new FakeClock(),
    log,
    onRoute: (method, path) => found.push(`${method} ${path}`),
  })
  expect(app).toBeDefined()
  return found.filter((route) => route.startsWith('GET') || route.startsWith('POST')).toSorted()
}

describe('docs/http.md', () => {
  test('every path is in its table, and every path there exists', () => {
    const documented = [...page.matchAll(/^\| `(\S+)` \| (\w+) \|/gm)].map(
      (match) => `${match[2]} ${match[1]}`,
    )
    expect(documented.toSorted()).toEqual(routes())
  })
})
