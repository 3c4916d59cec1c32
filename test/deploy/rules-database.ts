/** Rules about what etcd, Patroni and PostgreSQL need from the containers they run in. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parse } from 'yaml'
import type { Rule } from './rules.ts'
import { isDatabase, isEtcd, isPatroni, services, startOf } from './services.ts'
import { at, list, mapping, type Service, type Stack, seconds, text } from './stack.ts'

/** Docker's default, in which a parallel query finds no room. */
const DEFAULT_SHM_BYTES = 64 * 1024 * 1024

export const DATABASE_RULES: readonly Rule[] = [
  {
    name: 'database-shm',
    says: 'PostgreSQL has a /dev/shm of its own, larger than 64 MiB.',
    why: 'Parallel queries fail with "could not resize shared memory segment".',
    *check(stack) {
      for (const service of services(stack).filter(isDatabase)) {
        const bytes = shmBytes(service)
        if (!(bytes > DEFAULT_SHM_BYTES))
          yield { where: service.name, what: `/dev/shm of ${bytes} bytes` }
      }
    },
  },
  {
    name: 'volume-lock',
    says: 'Patroni is started under an flock on its volume, or by the script that takes it.',
    why: 'When a lost node comes back Swarm starts a second task on the volume while the first one still stops: two postmasters write one directory.',
    *check(stack) {
      for (const service of services(stack).filter(isDatabase))
        if (!/\bflock\b[\s\S]*\bexec\b[\s\S]*\bpatroni\b/.test(startOf(service)))
          yield { where: service.name, what: 'PostgreSQL is started without a lock on its volume' }
    },
  },
  {
    name: 'patroni-starts-it',
    says: 'PostgreSQL is started by Patroni alone.',
    why: 'A PostgreSQL beside Patroni is a second, unrelated database that nobody promotes.',
    *check(stack) {
      for (const service of services(stack).filter(isDatabase))
        if (!isPatroni(service)) yield { where: service.name, what: 'a PostgreSQL without Patroni' }
    },
  },
  {
    name: 'patroni-name',
    says: "Every Patroni has one task, whose literal name is its service's.",
    why: 'A name taken from the environment is that of the machine that deploys: all members share it.',
    *check(stack) {
      for (const service of services(stack).filter(isPatroni)) {
        const name = service.environment.get('PATRONI_NAME')
        if (service.mode === 'global') yield { where: service.name, what: 'a global Patroni' }
        else if (name !== service.name)
          yield { where: service.name, what: `PATRONI_NAME is '${name ?? ''}'` }
      }
    },
  },
  {
    name: 'etcd-no-health-check',
    says: 'etcd has no health check.',
    why: 'Swarm publishes a name only when its task is healthy, and etcd is healthy only when it found its peers by name.',
    isForSwarm: true,
    *check(stack) {
      for (const { name, content } of services(stack).filter(isEtcd))
        if (hasHealthCheck(content['healthcheck']))
          yield { where: name, what: 'has a health check' }
    },
  },
  {
    name: 'patroni-liveness',
    says: "A database's health check asks Patroni for /liveness and nothing else.",
    why: 'Everything else is false during recovery or on replicas, and Swarm kills what is unhealthy.',
    *check(stack) {
      for (const { name, content } of services(stack).filter(isDatabase)) {
        const check = list(at(content, 'healthcheck', 'test'))
          .map(text)
          .join(' ')
        if (
          !/:8008\/liveness\b/.test(check) ||
          /pg_isready|\/(?:health|readiness|primary|leader|replica|master)\b/.test(check)
        )
          yield { where: name, what: `health check is '${check || 'missing'}'` }
      }
    },
  },
  {
    name: 'patroni-start-period',
    says: 'The start period is longer than the time to stop.',
    why: 'A new task waits for the old one to leave the volume; it must not be killed for that.',
    *check(stack) {
      for (const { name, content, stopGraceS } of services(stack).filter(isPatroni)) {
        const start = seconds(at(content, 'healthcheck', 'start_period'))
        if (!(start > stopGraceS))
          yield { where: name, what: `starts within ${start} s, stops within ${stopGraceS} s` }
      }
    },
  },
  {
    name: 'etcd-initial-cluster',
    says: 'Every etcd member lists exactly the members of the stack, each with its own name.',
    why: 'Otherwise they are clusters of their own: several truths, several leaders.',
    *check(stack) {
      const members = services(stack).filter(isEtcd)
      const names = members.map(({ name }) => name).toSorted()
      for (const { name, environment, replicas, mode } of members) {
        const listed = initialCluster(environment.get('ETCD_INITIAL_CLUSTER') ?? '')
        const isWhole = JSON.stringify([...listed.keys()].toSorted()) === JSON.stringify(names)
        const isNamed = [...listed].every(([member, host]) => member === host)
        const isOwn = environment.get('ETCD_NAME') === name && replicas === 1 && mode !== 'global'
        if (!isWhole || !isNamed || !isOwn)
          yield { where: name, what: `initial cluster is '${[...listed.keys()].join(',')}'` }
      }
    },
  },
  {
    name: 'etcd-odd',
    says: 'etcd has an odd number of members.',
    why: 'A fourth member adds a way to lose the quorum and takes none away.',
    *check(stack) {
      const count = services(stack).filter(isEtcd).length
      if (count > 0 && count % 2 === 0) yield { where: 'services', what: `${count} etcd members` }
    },
  },
  {
    name: 'patroni-etcd-hosts',
    says: "Every Patroni's etcd3 hosts are exactly the etcd members.",
    why: 'Patroni that knows one member is down when that one is.',
    *check(stack, all) {
      const names = all
        .flatMap(services)
        .filter(isEtcd)
        .map(({ name }) => name)
        .toSorted()
      for (const service of services(stack).filter(isPatroni)) {
        const hosts = etcdHosts(stack, service)
        if (JSON.stringify(hosts.toSorted()) !== JSON.stringify(names))
          yield { where: service.name, what: `etcd3 hosts are '${hosts.join(',')}'` }
      }
    },
  },
]

function shmBytes({ mounts, content }: Service): number {
  if (content['shm_size'] !== undefined) return toBytes(text(content['shm_size']))
  if (!mounts.some(({ type, target }) => type === 'tmpfs' && target === '/dev/shm')) return 0
  const long = list(content['volumes']).find((one) => mapping(one)['target'] === '/dev/shm')
  return toBytes(text(at(long, 'tmpfs', 'size')))
}

function toBytes(size: string): number {
  const [, count, unit = ''] = /^(\d+)\s*([kmg]?)b?$/i.exec(size) ?? []
  return Number(count) * 1024 ** ['', 'k', 'm', 'g'].indexOf(unit.toLowerCase())
}

function hasHealthCheck(check: unknown): boolean {
  const { disable, test } = mapping(check)
  return check !== undefined && disable !== true && text(list(test)[0]) !== 'NONE'
}

/** `etcd1=https://etcd1:2380,...` as names with the hosts they are reached at. */
function initialCluster(listed: string): Map<string, string> {
  const members = listed.split(',').filter((one) => one !== '')
  return new Map(
    members.map((one) => {
      const [name = '', url = ''] = one.split('=')
      return [name, hostOf(url)]
    }),
  )
}

function hostOf(address: string): string {
  return address.replace(/^\w+:\/\//, '').replace(/[:/].*$/, '')
}

/** From PATRONI_ETCD3_HOSTS, or from the YAML files that the service is given as configs. */
function etcdHosts(stack: Stack, service: Service): string[] {
  const given = service.environment.get('PATRONI_ETCD3_HOSTS')
  if (given !== undefined)
    return given
      .replaceAll(/['"\s]/g, '')
      .split(',')
      .map(hostOf)
  return service.configs.flatMap(({ source, target }) => {
    const file = text(at(stack.content, 'configs', source, 'file'))
    if (!/\.ya?ml$/.test(target) || file === '') return []
    const hosts: unknown = at(
      parse(readFileSync(resolve(stack.folder, file), 'utf8')),
      'etcd3',
      'hosts',
    )
    return list(hosts)
      .flatMap((one) => text(one).split(','))
      .map((one) => hostOf(one.trim()))
  })
}
