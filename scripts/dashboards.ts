/** Writes deploy/grafana/dashboards from scripts/dashboards; `npm run docs` runs it. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { DASHBOARDS } from './dashboards/all.ts'
import { dashboardJson } from './dashboards/grafana.ts'

export const FOLDER = resolve(import.meta.dirname, '../deploy/grafana/dashboards')

if (import.meta.main) {
  mkdirSync(FOLDER, { recursive: true })
  for (const dashboard of DASHBOARDS)
    writeFileSync(join(FOLDER, `${dashboard.name}.json`), dashboardJson(dashboard))
}
