/**
 * What the Prometheus of a lab's cluster knows, asked by its own promtool in its own container.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parse } from 'yaml'
import { CLUSTER } from './deployment.ts'
import type { Lab } from './lab.ts'

/** It fires always, to prove that alerts arrive. */
const HEARTBEAT = 'AlertsFlow'
const RULES = resolve(import.meta.dirname, '../../deploy/prometheus/hosts.rules.yml')
/** Of the rules about hosts those that speak of a node of the lab, and not of the machine below all of them. */
const OF_NODES = new Set(['HostDown', 'HostMetricsAbsent'])
/** Its disk is the machine's, too. */
const ELSEWHERE = ['EtcdSlowDisk']

interface Sample {
  readonly metric: Readonly<Record<string, string>>
  readonly value: readonly [atSeconds: number, value: string]
}

interface Alert {
  readonly name: string
  readonly severity: string
}

/**
 * Alerts about the one machine that all nodes of a lab are on, whose clock, disk and processors other work has its
 * part in: they say the truth, and nothing of the deployment.
 */
export function alertsOfMachine(): Set<string> {
  const { groups } = parse(readFileSync(RULES, 'utf8')) as {
    groups: { rules: { alert: string }[] }[]
  }
  const names = groups.flatMap(({ rules }) => rules.map(({ alert }) => alert))
  return new Set([...names.filter((name) => !OF_NODES.has(name)), ...ELSEWHERE])
}

export class Monitoring {
  readonly #lab: Lab

  constructor(lab: Lab) {
    this.#lab = lab
  }

  async query(expression: string): Promise<readonly Sample[]> {
    const name = `name=^/?${CLUSTER}-monitoring_prometheus`
    for (const node of this.#lab.nodes.filter((one) => one.isOn)) {
      const container = (await node.docker('ps', '-q', '--filter', name)).trim()
      if (container === '') continue
      const ask = ['promtool', 'query', 'instant', '--format=json', 'http://localhost:9090']
      return JSON.parse(await node.docker('exec', container, ...ask, expression)) as Sample[]
    }
    throw new Error('Prometheus runs nowhere')
  }

  /** Jobs and instances of targets, those that do not answer with a `!`. */
  async targets(): Promise<string[]> {
    const targets = await this.query('up')
    return targets
      .map(({ metric, value }) => {
        const mark = value[1] === '1' ? '' : '!'
        return `${mark}${metric['job']} ${metric['instance']}`
      })
      .toSorted()
  }

  /** Servers of PostgreSQL that their exporters have logged in to. */
  async measured(): Promise<string[]> {
    const found = await this.query('pg_up == 1')
    return found.map(({ metric }) => metric['instance'] ?? '').toSorted()
  }

  /** The alerts that fire, but for the heartbeat. */
  async firing(): Promise<Alert[]> {
    return this.#alerts(`ALERTS{alertstate="firing", alertname!="${HEARTBEAT}"}`)
  }

  /** All that fired at some time of the last seconds. */
  async fired(seconds: number): Promise<Alert[]> {
    const selector = `ALERTS{alertstate="firing", alertname!="${HEARTBEAT}"}`
    return this.#alerts(`max_over_time(${selector}[${Math.max(15, Math.ceil(seconds))}s])`)
  }

  /** For who has to find out why something failed. */
  async told(): Promise<string> {
    const alerts = await this.query('ALERTS')
    const said = alerts.map(({ metric }) => JSON.stringify(metric))
    return [...(await this.targets()), ...said].join('\n')
  }

  async #alerts(expression: string): Promise<Alert[]> {
    const found = await this.query(expression)
    const severities = new Map(
      found.map(({ metric }) => [metric['alertname'] ?? '', metric['severity'] ?? '']),
    )
    return [...severities]
      .map(([name, severity]) => ({ name, severity }))
      .toSorted((one, two) => one.name.localeCompare(two.name))
  }
}
