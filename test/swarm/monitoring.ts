/**
 * What the Prometheus of a lab's cluster knows, asked by its own promtool in its own container.
 */
import { CLUSTER } from './deployment.ts'
import type { Lab } from './lab.ts'

/** It fires always, to prove that alerts arrive. */
const HEARTBEAT = 'AlertsFlow'

interface Sample {
  readonly metric: Readonly<Record<string, string>>
  readonly value: readonly [atSeconds: number, value: string]
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

  /** Names of the alerts that fire, but for the heartbeat. */
  async firing(): Promise<string[]> {
    const alerts = await this.query(`ALERTS{alertstate="firing", alertname!="${HEARTBEAT}"}`)
    return [...new Set(alerts.map(({ metric }) => metric['alertname'] ?? ''))].toSorted()
  }
}
