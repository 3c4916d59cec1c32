/**
 * A network of its own for one cluster: a bridge in a namespace, a namespace per node, one for the
 * poolers, and a link into the namespace that this process is in, where clients are. What can be
 * done to it is done to links only; processes are looked up by the namespace they are
 * in. Addresses are 10.x and are routed nowhere. `scripts/test.mjs` has put this process into
 * namespaces of its own, so all of this ends with it, whatever happens.
 */
import { spawnSync } from 'node:child_process'
import type { Place } from '../support/patroni.ts'

/** The nodes 1 to 3, and where pgsteer and the other poolers run. */
export type Site = 1 | 2 | 3 | 'poolers'

const SITES: readonly Site[] = [1, 2, 3, 'poolers']
const POOLERS_HOST = 10
const CLIENTS_HOST = 20

export class Network {
  readonly #name: string
  /** The third number of its addresses: networks side by side do not meet. */
  readonly #third: number

  constructor(name: string, third: number) {
    this.#name = name
    this.#third = third
    const bridge = this.#namespace('net')
    ip('netns', 'add', bridge)
    ip('-n', bridge, 'link', 'add', 'bridge', 'type', 'bridge')
    ip('-n', bridge, 'link', 'set', 'bridge', 'up')
    for (const site of SITES) this.#add(site)
    this.#join('clients')
    ip('addr', 'add', `${this.#address(CLIENTS_HOST)}/24`, 'dev', `${name}-clients`)
    ip('link', 'set', `${name}-clients`, 'up')
  }

  place(site: Site): Place {
    return {
      host: this.host(site),
      enter: ['nsenter', `--net=/run/netns/${this.#namespace(site)}`],
    }
  }

  host(site: Site): string {
    return this.#address(site === 'poolers' ? POOLERS_HOST : site)
  }

  /** Takes the node's link away: packets vanish, nobody is told. */
  cut(site: Site): void {
    ip('-n', this.#namespace('net'), 'link', 'set', this.#link(site), 'down')
  }

  heal(site: Site): void {
    ip('-n', this.#namespace('net'), 'link', 'set', this.#link(site), 'up')
  }

  /** Every process whose network is that site's. */
  processes(site: Site): number[] {
    const listed = ip('netns', 'pids', this.#namespace(site))
    return listed.split('\n').filter(Boolean).map(Number)
  }

  remove(): void {
    for (const site of [...SITES, 'net'] as const) ip('netns', 'del', this.#namespace(site))
  }

  #add(site: Site): void {
    const namespace = this.#namespace(site)
    ip('netns', 'add', namespace)
    this.#join(site)
    ip('link', 'set', this.#link(site, 'in'), 'netns', namespace, 'name', 'eth0')
    ip('-n', namespace, 'addr', 'add', `${this.host(site)}/24`, 'dev', 'eth0')
    for (const device of ['lo', 'eth0']) ip('-n', namespace, 'link', 'set', device, 'up')
  }

  /** A pair of links: one end on the bridge, the other one still here. */
  #join(site: Site | 'clients'): void {
    const here = site === 'clients' ? `${this.#name}-clients` : this.#link(site, 'in')
    const there = site === 'clients' ? 'clients' : this.#link(site)
    const bridge = this.#namespace('net')
    ip('link', 'add', here, 'type', 'veth', 'peer', 'name', there, 'netns', bridge)
    ip('-n', bridge, 'link', 'set', there, 'master', 'bridge', 'up')
  }

  #link(site: Site, end: 'in' | 'out' = 'out'): string {
    return end === 'out' ? `to-${site}` : `${this.#name}-${site}`
  }

  #namespace(site: Site | 'net'): string {
    return `${this.#name}-${site}`
  }

  #address(last: number): string {
    return `10.77.${this.#third}.${last}`
  }
}

function ip(...parameters: readonly string[]): string {
  return execute(['ip', ...parameters])
}

function execute([file = '', ...parameters]: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(file, parameters, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${file} ${parameters.join(' ')}: ${stderr}`)
  return stdout
}
