/**
 * A network of its own for one cluster: a bridge in a namespace, a namespace per node, one for the
 * poolers, and a link into the namespace that this process is in, where clients are. What can be
 * done to it is done to links and routes only; processes are looked up by the namespace they are
 * in. A node's etcd member has an address of its own, so that it can be cut off alone. Addresses are 10.x and are routed nowhere. `scripts/test.mjs` has put this process into
 * namespaces of its own, so all of this ends with it, whatever happens.
 */
import { spawnSync } from 'node:child_process'
import type { Place } from '../support/patroni.ts'

/** A node of the cluster. */
export type NodeSite = 1 | 2 | 3
/** The nodes, and where pgsteer and the other poolers run. */
export type Site = NodeSite | 'poolers'

export const NODES = [1, 2, 3] as const
const SITES: readonly Site[] = [...NODES, 'poolers']
const POOLERS_HOST = 10
const CLIENTS_HOST = 20
const NOBODY_HOST = 250
/** Added to a node's number. */
const ETCD_HOST = 100
/** How often what a site forks meanwhile is looked for. */
const ROUNDS_MAX = 100

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
      ...(site === 'poolers' ? {} : { etcdHost: this.#address(ETCD_HOST + site) }),
      enter: ['nsenter', `--net=/run/netns/${this.#namespace(site)}`],
    }
  }

  host(site: Site): string {
    return this.#address(site === 'poolers' ? POOLERS_HOST : site)
  }

  /** An address of this network that nobody has. */
  get nowhere(): string {
    return this.#address(NOBODY_HOST)
  }

  /** Takes the node's link away: packets vanish, nobody is told. */
  cut(site: Site): void {
    ip('-n', this.#namespace('net'), 'link', 'set', this.#link(site), 'down')
  }

  heal(site: Site): void {
    ip('-n', this.#namespace('net'), 'link', 'set', this.#link(site), 'up')
  }

  /**
   * What this node says to these TCP ports, its own ones too, vanishes; everything else goes on, also
   * what others say to it.
   */
  mute(site: Site, ports: readonly number[]): void {
    const here = ['-n', this.#namespace(site), 'rule']
    // The rule that finds local addresses is tried before all others unless it is moved.
    ip(...here, 'add', 'pref', '100', 'lookup', 'local')
    ip(...here, 'del', 'pref', '0', 'lookup', 'local')
    for (const port of ports)
      ip(
        ...here,
        'add',
        'pref',
        '10',
        'iif',
        'lo',
        'ipproto',
        'tcp',
        'dport',
        `${port}`,
        'blackhole',
      )
  }

  unmute(site: Site, ports: readonly number[]): void {
    for (const _ of ports) ip('-n', this.#namespace(site), 'rule', 'del', 'pref', '10')
    ip('-n', this.#namespace(site), 'rule', 'add', 'pref', '0', 'lookup', 'local')
    ip('-n', this.#namespace(site), 'rule', 'del', 'pref', '100')
  }

  /** The etcd member of that node hears no other one and is heard by none; its clients reach it. */
  isolateEtcd(node: NodeSite, own: number, others: readonly number[]): void {
    for (const match of [['sport', `${own}`], ...others.map((port) => ['dport', `${port}`])])
      ip(...this.#peerRule(node, 'add'), 'iif', 'lo', 'ipproto', 'tcp', ...match, 'blackhole')
  }

  joinEtcd(node: NodeSite, others: readonly number[]): void {
    for (let count = 0; count <= others.length; count += 1) ip(...this.#peerRule(node, 'del'))
  }

  /** That site and those nodes reach each other no more; everything else goes on. */
  sever(site: Site, nodes: readonly NodeSite[]): void {
    for (const address of this.#addressesOf(nodes))
      ip('-n', this.#namespace(site), 'route', 'add', 'blackhole', `${address}/32`)
  }

  unite(site: Site, nodes: readonly NodeSite[]): void {
    for (const address of this.#addressesOf(nodes))
      ip('-n', this.#namespace(site), 'route', 'del', 'blackhole', `${address}/32`)
  }

  /** From that site packets to any etcd member vanish; all others go on. */
  cutFromEtcd(site: Site): void {
    for (const address of this.#etcdsAway(site))
      ip('-n', this.#namespace(site), 'route', 'add', 'blackhole', `${address}/32`)
  }

  healToEtcd(site: Site): void {
    for (const address of this.#etcdsAway(site))
      ip('-n', this.#namespace(site), 'route', 'del', 'blackhole', `${address}/32`)
  }

  /** What that site sends goes out at so many bits per second, and waits for its turn up to 2 s. */
  slow(site: Site, rate: string): void {
    const shape = ['tbf', 'rate', rate, 'burst', '4kb', 'latency', '2s']
    tc('-n', this.#namespace(site), 'qdisc', 'add', 'dev', 'eth0', 'root', ...shape)
  }

  unslow(site: Site): void {
    tc('-n', this.#namespace(site), 'qdisc', 'del', 'dev', 'eth0', 'root')
  }

  /**
   * Sends a signal to every process whose network is that site's, also to those that are forked
   * while this is done; returns them.
   */
  signalAll(site: Site, signal: 'SIGSTOP' | 'SIGKILL'): number[] {
    const reached = new Set<number>()
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const fresh = this.#processes(site).filter((pid) => !reached.has(pid))
      if (fresh.length === 0) return [...reached]
      for (const pid of fresh) {
        reached.add(pid)
        send(pid, signal)
      }
    }
    throw new Error(`processes of ${site} come faster than they are reached`)
  }

  thaw(pids: readonly number[]): void {
    for (const pid of pids) send(pid, 'SIGCONT')
  }

  #processes(site: Site): number[] {
    const listed = ip('netns', 'pids', this.#namespace(site))
    return listed.split('\n').filter(Boolean).map(Number)
  }

  #peerRule(node: NodeSite, what: 'add' | 'del'): string[] {
    return ['-n', this.#namespace(node), 'rule', what, 'pref', '20']
  }

  #addressesOf(nodes: readonly NodeSite[]): string[] {
    return nodes.flatMap((node) => [this.#address(node), this.#address(ETCD_HOST + node)])
  }

  #etcdsAway(site: Site): string[] {
    return NODES.filter((node) => node !== site).map((node) => this.#address(ETCD_HOST + node))
  }

  remove(): void {
    for (const site of [...SITES, 'net'] as const) ip('netns', 'del', this.#namespace(site))
  }

  #add(site: Site): void {
    const namespace = this.#namespace(site)
    ip('netns', 'add', namespace)
    this.#join(site)
    ip('link', 'set', this.#link(site, 'in'), 'netns', namespace, 'name', 'eth0')
    const addresses = [this.host(site)]
    if (site !== 'poolers') addresses.push(this.#address(ETCD_HOST + site))
    for (const address of addresses)
      ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'eth0')
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

function tc(...parameters: readonly string[]): string {
  return execute(['tc', ...parameters])
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    // It ended meanwhile.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

function execute([file = '', ...parameters]: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(file, parameters, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${file} ${parameters.join(' ')}: ${stderr}`)
  return stdout
}
