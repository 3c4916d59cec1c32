/** Rules about the file itself: what Swarm ignores or what names nothing, both in silence. */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Fault, Rule } from './rules.ts'
import { services } from './services.ts'
import { at, mapping, type Service, type Stack, strings, text } from './stack.ts'

/** cli/compose/types: UnsupportedProperties and DeprecatedProperties, and what has no effect in Swarm. */
const IGNORED = (
  'build cgroupns_mode cgroup_parent container_name depends_on devices domainname expose ' +
  'external_links ipc links mac_address network_mode pid privileged restart security_opt ' +
  'shm_size tmpfs userns_mode'
).split(' ')
/** Compose's own, which `docker stack` refuses or ignores. */
const IGNORED_AT_TOP = ['version', 'name', 'include']

export const FILE_RULES: readonly Rule[] = [
  {
    name: 'image-pinned',
    says: 'Every image has a tag with at least major and minor number, or a digest.',
    why: 'A floating tag is another program on each node, and after each restart.',
    *check(stack) {
      for (const { name, image } of services(stack))
        if (!isPinned(image)) yield { where: name, what: `image ${image} is not pinned` }
    },
  },
  {
    name: 'no-ignored-keys',
    says: 'No key that Swarm ignores.',
    why: 'Swarm drops them with a line that nobody reads: shm_size, devices, depends_on do nothing.',
    isForSwarm: true,
    *check({ written }) {
      for (const key of IGNORED_AT_TOP)
        if (key in written) yield { where: key, what: `Swarm ignores ${key}` }
      for (const [name, service] of Object.entries(mapping(written['services'])))
        for (const key of IGNORED)
          if (key in mapping(service)) yield { where: name, what: `Swarm ignores ${key}` }
    },
  },
  {
    name: 'references-defined',
    says: 'Every network, volume, config and secret that a service names is defined.',
    why: '`docker stack config` does not look; the deploy stops half way.',
    *check(stack) {
      for (const service of services(stack))
        for (const [kind, name] of referencesOf(service))
          if (at(stack.content, kind, name) === undefined)
            yield { where: service.name, what: `${kind}.${name} is not defined` }
    },
  },
  {
    name: 'files-exist',
    says: 'Every file that a config, a secret or an env_file names is there.',
    why: '`docker stack config` does not look; the deploy stops half way.',
    *check(stack) {
      for (const kind of ['configs', 'secrets'])
        for (const [name, definition] of Object.entries(mapping(stack.content[kind])))
          yield* missingFile(stack, `${kind}.${name}`, text(mapping(definition)['file']))
      for (const { name, content } of services(stack))
        yield* missingFile(stack, name, text(content['env_file']))
    },
  },
  {
    name: 'no-nested-variables',
    says: 'No variable in the default of a variable.',
    why: 'Docker ends at the first brace: the rest is taken literally, and nothing missing is noticed.',
    isForSwarm: true,
    *check({ written }) {
      for (const { path, value } of strings(written))
        if (/\$\{\w+:?[-?][^}]*\$\{/.test(value))
          yield { where: path[1] ?? '', what: `a variable in a variable: ${value}` }
    },
  },
  {
    name: 'plain-messages',
    says: 'No hyphen in the message for a missing variable.',
    why: 'Docker looks for the hyphen of a default first: what follows it becomes the value, always.',
    isForSwarm: true,
    *check({ written }) {
      for (const { path, value } of strings(written))
        for (const [, name, message] of value.matchAll(/\$\{(\w+):?\?([^}]*)/g))
          if (message?.includes('-') === true)
            yield { where: path[1] ?? '', what: `a hyphen in the message of ${name}` }
    },
  },
  {
    name: 'no-relative-bind',
    says: 'No bind mount of a path that lies beside the file.',
    why: 'The path is looked for on the node where the task lands, which has no checkout.',
    isForSwarm: true,
    *check(stack) {
      for (const { name, mounts } of services(stack))
        for (const { type, source } of mounts)
          if (type === 'bind' && !source.startsWith('/'))
            yield { where: name, what: `bind mount of ${source}` }
    },
  },
  {
    name: 'versioned-names',
    says: 'Names of configs and secrets carry a version: a digest of the content or an epoch.',
    why: 'They are immutable: a second deploy with another content is refused.',
    isForSwarm: true,
    *check({ written }) {
      for (const kind of ['configs', 'secrets'])
        for (const [name, definition] of Object.entries(mapping(written[kind])))
          if (!/\$\{\w*(?:SHA|EPOCH)\b/.test(text(mapping(definition)['name'])))
            yield { where: `${kind}.${name}`, what: 'its name has no version' }
    },
  },
]

function isPinned(image: string): boolean {
  if (/@sha256:[\da-f]{64}$/.test(image)) return true
  const tag = /:([^:/]+)$/.exec(image)?.[1] ?? ''
  return /\d+\.\d+/.test(tag)
}

function* referencesOf(service: Service): Generator<[kind: string, name: string]> {
  for (const name of service.networks) yield ['networks', name]
  for (const { source } of service.configs) yield ['configs', source]
  for (const { source } of service.secrets) yield ['secrets', source]
  for (const { type, source } of service.mounts)
    if (type === 'volume' && source !== '') yield ['volumes', source]
}

function* missingFile(stack: Stack, where: string, file: string): Generator<Fault> {
  if (file !== '' && !existsSync(resolve(stack.folder, file)))
    yield { where, what: `there is no ${file}` }
}
