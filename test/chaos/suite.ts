/**
 * Plays the scenarios on a real cluster and judges what they cost. What is never allowed is here;
 * what a scenario may cost is in its row. The accounts go to .cache/reports, from where
 * `node scripts/docs-chaos.ts` writes the table of docs/failover.md.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Account, stallMsMaxOf } from './account.ts'
import { FURTHER } from './further.ts'
import { MORE } from './more.ts'
import { type Scenario, SHORT } from './scenarios.ts'
import { type Mode, Stage } from './stage.ts'

const REPORTS = resolve(import.meta.dirname, '../../.cache/reports')
/** `npm run test:chaos -- --all` sets it. */
const isWhole = process.env['CHAOS_FORM'] === 'whole'
/**
 * A client's statement that is under way when the fault comes; and the one behind it, when it was
 * sent before word of the fault had come over its own server's connection. Whatever is sent later
 * has to wait.
 */
const TROUBLES_MAX = 2
/** From here on the cluster itself could not write. */
const OUTAGE_MS_MIN = 1000

/** `more`  scenarios of the whole form beside those that every mode has. */
export function chaosSuite(mode: Mode, third: number, more: readonly Scenario[] = []): void {
  let stage: Stage
  const accounts: Account[] = []

  beforeAll(async () => {
    stage = await Stage.start(mode, third)
  })
  afterEach(() => stage.clear())
  afterAll(async () => {
    await stage?.stop()
    report(mode, accounts)
  })

  describe(`${mode} replication`, () => {
    for (const scenario of isWhole ? [...SHORT, ...MORE, ...FURTHER, ...more] : SHORT)
      test(scenario.title, async () => {
        const { hasHook = false, isCompared = false, isShared = false, isNamed = false } = scenario
        const { pgsteer = {}, pgbouncer = {}, env = {} } = scenario
        const keys = { pgsteer, pgbouncer, env }
        const asked = { hasHook, isCompared: isWhole && isCompared, isShared, isNamed, ...keys }
        const scene = await stage.begin(asked)
        await scenario.play(stage, scene)
        const [account, ...others] = await stage.accounts(scene, scenario.name)
        accounts.push(account, ...others)
        expectHonest(account, mode)
        expectCosts(account, scenario)
        scenario.judge?.(account, scene)
      })
  })
}

function expectHonest(account: Account, mode: Mode): void {
  const said = JSON.stringify(account)
  expect(account.doubled, said).toBe(0)
  expect(account.untrue, said).toBe(0)
  expect(account.stale, said).toBe(0)
  expect(account.lostOfOurs, said).toBe(0)
  expect(account.wrongAnswers ?? 0, said).toBe(0)
  if (mode === 'synchronous') expect(account.lost, said).toBe(0)
  expect(account.dropped, said).toBe(0)
  expect(account.refused, said).toBe(0)
}

function expectCosts(account: Account, { costs, extraStallMs = 0 }: Scenario): void {
  const said = JSON.stringify(account)
  const isFree = costs === 'nothing' || (costs === 'outage' && account.outageMs < OUTAGE_MS_MIN)
  expect(account.troublesOfOne, said).toBeLessThanOrEqual(isFree ? 0 : TROUBLES_MAX)
  if (isFree) expect(account.readErrors, said).toBe(0)
  const stallMsMax = stallMsMaxOf(account) + extraStallMs
  expect(account.writeStallMs, said).toBeLessThan(stallMsMax)
}

/** A row replaces that of an earlier run: single scenarios can be run anew. */
function report(mode: Mode, accounts: readonly Account[]): void {
  const file = join(REPORTS, `chaos-${mode}.json`)
  mkdirSync(REPORTS, { recursive: true })
  const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Account[]) : []
  const isAnew = ({ scenario, pooler }: Account): boolean =>
    accounts.some((one) => one.scenario === scenario && one.pooler === pooler)
  const kept = before.filter((account) => account.pooler !== undefined && !isAnew(account))
  writeFileSync(file, `${JSON.stringify([...kept, ...accounts], null, 2)}\n`)
}
