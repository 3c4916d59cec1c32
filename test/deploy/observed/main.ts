/**
 * `npm run record-metrics`: runs everything that the dashboards and alert rules are about, scrapes it, and writes
 * what each program exports to test/deploy/metrics, where the tests look names and labels up. With
 * `--pictures` it goes on for some minutes, with a switchover and a replica that falls behind, and plots every
 * panel of the dashboards from the real Prometheus into .cache/dashboards. Needs root.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { waitFor } from '../../support/wait.ts'
import { condensed } from './exposition.ts'
import { plot } from './pictures.ts'
import { Stage } from './stage.ts'

const FIXTURES = resolve(import.meta.dirname, '../metrics')
const PLOTS = resolve(import.meta.dirname, '../../../.cache/dashboards')
const SETTLE_MS = 20_000
const QUIET_MS = 75_000

async function main(): Promise<void> {
  await using stage = await Stage.start()
  await everythingUp(stage)
  await pause(SETTLE_MS)
  await record(stage)
  if (!process.argv.includes('--pictures')) return
  const startS = Date.now() / 1000
  await pause(QUIET_MS)
  await stage.cluster.switchover()
  await pause(QUIET_MS)
  mkdirSync(PLOTS, { recursive: true })
  await plot(stage.prometheusUrl, { startS, endS: Date.now() / 1000 }, PLOTS)
}

/** Prometheus itself says that each of its targets answers. */
async function everythingUp(stage: Stage): Promise<void> {
  const wanted = [...stage.targets.values()].flat().length
  await waitFor(
    `${wanted} targets that are up`,
    async () => {
      const answer = await fetch(`${stage.prometheusUrl}/api/v1/targets?state=active`)
      const { data } = (await answer.json()) as {
        data: { activeTargets: { health: string; scrapeUrl: string; lastError: string }[] }
      }
      const up = data.activeTargets.filter(({ health }) => health === 'up')
      if (up.length === wanted) return true
      throw new Error(JSON.stringify(data.activeTargets.filter(({ health }) => health !== 'up')))
    },
    { withinMs: 90_000, everyMs: 1000 },
  )
}

async function record(stage: Stage): Promise<void> {
  mkdirSync(FIXTURES, { recursive: true })
  for (const [job, targets] of stage.targets) {
    const texts = await Promise.all(targets.map((target) => scrape(target)))
    const head = `# Job ${job} on Debian 13, written by npm run record-metrics; all values are 1.\n`
    writeFileSync(join(FIXTURES, `${job}.prom`), `${head}${condensed(texts)}`)
    console.log(`${job}: ${targets.length} targets`)
  }
}

/** Names of targets are those of the Debian root's hosts file; all of them are loopback. */
async function scrape(target: string): Promise<string> {
  const url = `http://127.0.0.1:${target.replace(/^.*:/, '')}/metrics`
  return (await fetch(url, { signal: AbortSignal.timeout(10_000) })).text()
}

await main()
