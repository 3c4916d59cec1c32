/** Writes docs/alerts.md from the rules in deploy/prometheus; `npm run docs` runs it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parse } from 'yaml'

const ROOT = resolve(import.meta.dirname, '..')
export const PAGE = join(ROOT, 'docs/alerts.md')

/** In the order of reading, with what each file is about. */
const FILES: readonly (readonly [name: string, title: string])[] = [
  ['cluster', 'The cluster'],
  ['pgsteer', 'pgsteer'],
  ['postgres', 'PostgreSQL'],
  ['etcd', 'etcd'],
  ['hosts', 'Hosts'],
  ['backups', 'Backups'],
  ['monitoring', 'Monitoring and certificates'],
]

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly for?: string
  readonly labels: { readonly severity: string }
  readonly annotations: {
    readonly summary: string
    readonly remedy: string
    readonly runbook?: string
  }
}

const HEAD = `# Alerts

Every alert of [deploy/prometheus](../deploy/prometheus), with what it says and what to do. **critical** wakes somebody,
**warning** is for working hours, **info** is for the record, and **heartbeat** fires for ever, so that a service
outside of the cluster notices when nothing comes any more. Who gets which is in
[deploy/alertmanager](../deploy/alertmanager/alertmanager.yml), which also keeps quiet what follows from something that
fires already. \`npm run test:deploy\` sees each of them fire and not fire, and proves that the real programs export
every metric they ask for. This page is made by \`npm run docs\`.
`

export function alertsPage(): string {
  return [HEAD, ...FILES.map(([name, title]) => section(name, title))].join('\n')
}

function section(name: string, title: string): string {
  const { groups } = parse(
    readFileSync(join(ROOT, `deploy/prometheus/${name}.rules.yml`), 'utf8'),
  ) as { groups: { rules: Rule[] }[] }
  return [`## ${title}`, '', ...groups.flatMap(({ rules }) => rules.map(entry))].join('\n')
}

function entry({ alert, expr, labels, annotations, for: lasting }: Rule): string {
  const words = annotations.summary
    .replaceAll(/\{\{ \$labels\.(\w+) \}\}/g, '*$1*')
    .replaceAll(/\{\{ \$value[^}]*\}\}/g, '*value*')
  const when = lasting === undefined ? 'at once' : `after ${lasting}`
  const more =
    annotations.runbook === undefined
      ? ''
      : ` See [${annotations.runbook}](${annotations.runbook.replace('docs/', '')}).`
  return [
    `### ${alert}`,
    '',
    `${labels.severity}, ${when}: ${words}.`,
    '',
    `${capital(annotations.remedy.replaceAll(/\{\{ \$labels\.(\w+) \}\}/g, '*$1*'))}.${more}`,
    '',
    '```promql',
    expr.trim(),
    '```',
    '',
  ].join('\n')
}

function capital(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`
}

if (import.meta.main) writeFileSync(PAGE, alertsPage())
