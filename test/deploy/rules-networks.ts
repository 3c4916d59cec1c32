/** Rules about networks: who can reach etcd and the databases, and whether what measures them can. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parse } from 'yaml'
import type { Rule } from './rules.ts'
import { isDatabase, isEtcd, services } from './services.ts'
import {
  at,
  list,
  type Mapping,
  mapping,
  type Service,
  type Stack,
  strings,
  text,
} from './stack.ts'

export const NETWORK_RULES: readonly Rule[] = [
  {
    name: 'inner-networks',
    says: 'Networks of etcd and of databases are internal and not attachable.',
    why: 'Any container on any node could join an attachable one, and etcd needs no way out.',
    *check(stack) {
      for (const [name, network] of innerNetworks(stack)) {
        if (network['attachable'] === true)
          yield { where: `networks.${name}`, what: 'is attachable' }
        if (network['internal'] !== true)
          yield { where: `networks.${name}`, what: 'is not internal' }
      }
    },
  },
  {
    name: 'fixed-subnet',
    says: 'Networks of databases have a fixed subnet.',
    why: 'pg_hba.conf has to name exactly those who may come.',
    *check(stack) {
      for (const [name, network] of innerNetworks(stack))
        if (text(mapping(list(at(network, 'ipam', 'config'))[0])['subnet']) === '')
          yield { where: `networks.${name}`, what: 'has no subnet' }
    },
  },
  {
    name: 'encrypted-overlay',
    says: 'Overlays of etcd and of databases are encrypted.',
    why: 'VXLAN is plain text on the wire between the nodes.',
    isForSwarm: true,
    *check(stack) {
      for (const [name, network] of innerNetworks(stack))
        if (text(at(network, 'driver_opts', 'encrypted')) !== 'true')
          yield { where: `networks.${name}`, what: 'is not encrypted' }
    },
  },
  {
    name: 'hosts-measured',
    says: 'node-exporter is on the network of the host.',
    why: "In an overlay it measures the network of its container; the host's it never sees.",
    isForSwarm: true,
    *check(stack) {
      for (const service of services(stack))
        if (/\bnode-exporter\b/.test(service.image))
          if (!service.networks.some((key) => networkName(service, key) === 'host'))
            yield { where: service.name, what: 'is not on the network of the host' }
    },
  },
  {
    name: 'targets-reachable',
    says: 'What an exporter or Prometheus measures is a service on a network that both share.',
    why: 'A name resolves only there; elsewhere the target is down for ever.',
    *check(stack, all) {
      const named = new Map(all.flatMap(services).map((service) => [service.name, service]))
      for (const service of services(stack))
        for (const host of targetsOf(service)) {
          const target = named.get(host)
          if (target === undefined) yield { where: service.name, what: `no service ${host}` }
          else if (target !== service && !shareNetwork(service, target))
            yield { where: service.name, what: `no network in common with ${host}` }
        }
    },
  },
]

/** Networks that this file defines and that etcd or a database is on. */
function innerNetworks(stack: Stack): readonly [name: string, network: Mapping][] {
  const users = services(stack).filter((service) => isEtcd(service) || isDatabase(service))
  const names = new Set(users.flatMap(({ networks }) => networks))
  return [...names]
    .map((name): [string, Mapping] => [name, mapping(at(stack.content, 'networks', name))])
    .filter(([, network]) => network['external'] !== true)
}

/** What Docker calls the network that a service knows by `key`. */
function networkName({ stack }: Service, key: string): string {
  const { name, external } = mapping(at(stack.content, 'networks', key))
  return text(name) || (external === true ? key : `${stack.name}_${key}`)
}

function shareNetwork(a: Service, b: Service): boolean {
  const names = new Set(a.networks.map((key) => networkName(a, key)))
  return b.networks.some((key) => names.has(networkName(b, key)))
}

/** Hosts that an exporter is pointed at by its environment, or Prometheus by its configuration. */
function targetsOf(service: Service): readonly string[] {
  const { environment } = service
  const source = environment.get('DATA_SOURCE_URI') ?? environment.get('DATA_SOURCE_NAME') ?? ''
  const exported = source
    .replace(/^\w+:\/\//, '')
    .replace(/^[^@]*@/, '')
    .replace(/[:/?].*$/, '')
  const hosts = [exported, ...scraped(service)].map((host) => host.replace(/^tasks\./, ''))
  const outside = /^$|^localhost$|^\d+\.\d+\.\d+\.\d+$/
  return [...new Set(hosts)].filter((host) => !outside.test(host))
}

function scraped({ stack, configs }: Service): readonly string[] {
  return configs.flatMap(({ source, target }) => {
    const file = text(at(stack.content, 'configs', source, 'file'))
    if (!/\bprometheus\.ya?ml$/.test(target) || file === '') return []
    const content = mapping(parse(readFileSync(resolve(stack.folder, file), 'utf8')))
    const jobs = [content['scrape_configs'], at(content, 'alerting', 'alertmanagers')]
    return Array.from(strings(jobs))
      .filter(({ path }) => path.includes('targets') || path.includes('names'))
      .map(({ value }) => value.replace(/:\d+$/, ''))
  })
}
