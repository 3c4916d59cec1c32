/**
 * A stack file as the rules see it: parsed, its variables replaced as Docker replaces them, and the
 * short and the long forms of ports, mounts and references brought into one. It judges nothing
 * (rules.ts does) and does not validate Docker's schema (`docker stack config` does).
 */
import { readFileSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { parse } from 'yaml'

export type Mapping = Readonly<Record<string, unknown>>

export interface Mount {
  readonly type: string
  /** Name of a volume or a path of the host; empty for a tmpfs. */
  readonly source: string
  readonly target: string
}

export interface Port {
  readonly published: string
  readonly protocol: string
  /** `ingress` is the mesh on every node, `host` the address of the task's own node. */
  readonly mode: string
}

/** A config or secret of a service: where it comes from and where the container sees it. */
export interface Reference {
  readonly source: string
  readonly target: string
}

export interface Service {
  readonly name: string
  readonly stack: Stack
  /** As parsed, with its variables replaced. */
  readonly content: Mapping
  readonly deploy: Mapping
  readonly image: string
  /** Entrypoint and command, word by word; empty when the image decides. */
  readonly words: readonly string[]
  readonly environment: ReadonlyMap<string, string>
  readonly networks: readonly string[]
  readonly mounts: readonly Mount[]
  readonly ports: readonly Port[]
  readonly configs: readonly Reference[]
  readonly secrets: readonly Reference[]
  readonly constraints: readonly string[]
  readonly mode: string
  readonly replicas: number
  readonly stopGraceS: number
}

export interface Stack {
  /** `swarm` is for `docker stack deploy`, `compose` for one machine. */
  readonly kind: 'swarm' | 'compose'
  readonly name: string
  readonly file: string
  readonly folder: string
  /** As written: variables not replaced. */
  readonly written: Mapping
  readonly content: Mapping
  readonly services: ReadonlyMap<string, Service>
}

export interface StackOptions {
  readonly kind?: Stack['kind']
  /** Given to `docker stack deploy`; Docker puts it before names that the file leaves open. */
  readonly name?: string
  readonly environment?: Readonly<Record<string, string>>
}

export function readStack(file: string, options: StackOptions = {}): Stack {
  // A copy without shared parts, which YAML's aliases would otherwise leave.
  const written: unknown = JSON.parse(
    JSON.stringify(parse(readFileSync(file, 'utf8'), { merge: true })),
  )
  return makeStack(file, mapping(written), options)
}

export function makeStack(file: string, written: Mapping, options: StackOptions = {}): Stack {
  const content = mapping(replaced(written, options.environment ?? {}))
  const services = new Map<string, Service>()
  const stack: Stack = {
    kind: options.kind ?? 'swarm',
    name: options.name ?? basename(file).replace(/\.ya?ml$/, ''),
    file,
    folder: dirname(resolve(file)),
    written,
    content,
    services,
  }
  for (const [name, service] of Object.entries(mapping(content['services'])))
    services.set(name, toService(stack, name, mapping(service)))
  return stack
}

export function mapping(value: unknown): Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Mapping)
    : {}
}

export function list(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value
  return value === undefined || value === null ? [] : [value]
}

export function text(value: unknown): string {
  if (typeof value === 'string') return value
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : ''
}

/** What lies at that path, step by step through mappings. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  return path.reduce<unknown>((inner, key) => mapping(inner)[key], value)
}

/** Every string below `value`, with the path to it. */
export function* strings(
  value: unknown,
  path: readonly string[] = [],
): Generator<{ path: readonly string[]; value: string }> {
  if (typeof value === 'string') yield { path, value }
  else if (typeof value === 'object' && value !== null)
    for (const [key, inner] of Object.entries(value)) yield* strings(inner, [...path, key])
}

/** `1m30s` in seconds; NaN for what is no duration. */
export function seconds(duration: unknown): number {
  const written = text(duration)
  const parts = [...written.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g)]
  if (parts.map(([whole]) => whole).join('') !== written || written === '') return Number.NaN
  const of: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1, ms: 0.001 }
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (of[unit ?? ''] ?? 0), 0)
}

interface Variable {
  readonly name: string
  /** `:-`, `-`, `:?`, `?`, or nothing. */
  readonly operator: string
  /** The default or the message. */
  readonly word: string
}

/**
 * `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `$NAME`, and `$$` for a dollar. They do not nest:
 * the first brace ends it.
 * Source  cli/compose/template in docker/cli.
 */
const VARIABLE = /\$(?:\$|\{(?<braced>\w+(?::?[-?][^}]+)?)\}|(?<plain>\w+))/g
/** In the order in which Docker looks for them: a hyphen anywhere makes a message a default. */
const OPERATORS = [':-', '-', ':?', '?']

/** Undefined for `$$`. */
function toVariable({ groups = {} }: RegExpMatchArray): Variable | undefined {
  const { braced, plain } = groups
  const whole = braced ?? plain
  if (whole === undefined) return undefined
  const operator = OPERATORS.find((one) => whole.includes(one)) ?? ''
  if (operator === '') return { name: whole, operator, word: '' }
  const [name = '', ...word] = whole.split(operator)
  return { name, operator, word: word.join(operator) }
}

/** As Docker does it, but what is missing becomes the empty string. */
export function interpolated(
  written: string,
  environment: Readonly<Record<string, string>>,
): string {
  let [result, end] = ['', 0]
  for (const match of written.matchAll(VARIABLE)) {
    const variable = toVariable(match)
    const value = variable === undefined ? '$' : valueOf(variable, environment)
    result += written.slice(end, match.index) + value
    end = match.index + match[0].length
  }
  return result + written.slice(end)
}

function valueOf(
  { name, operator, word }: Variable,
  environment: Readonly<Record<string, string>>,
): string {
  const value = environment[name]
  const isThere = value !== undefined && (value !== '' || !operator.startsWith(':'))
  if (isThere) return value
  return operator.endsWith('-') ? word : ''
}

/** Names of the variables in a file's strings, each with whether a missing one stops the deploy. */
export function variables(stack: Stack): ReadonlyMap<string, { readonly isRequired: boolean }> {
  const found = new Map<string, { isRequired: boolean }>()
  for (const { value } of strings(stack.written))
    for (const match of value.matchAll(VARIABLE)) {
      const variable = toVariable(match)
      // Of what is no name, plain-messages tells.
      if (variable === undefined || !/^\w+$/.test(variable.name)) continue
      const { name, operator } = variable
      const isRequired = operator.endsWith('?') || found.get(name)?.isRequired === true
      found.set(name, { isRequired })
    }
  return found
}

function replaced(value: unknown, environment: Readonly<Record<string, string>>): unknown {
  if (typeof value === 'string') return interpolated(value, environment)
  if (Array.isArray(value)) return value.map((inner) => replaced(inner, environment))
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([key, inner]) => [key, replaced(inner, environment)])
  return Object.fromEntries(entries) as Mapping
}

/** Docker's defaults for what a file leaves out: cli/compose/types, swarmkit/api/defaults. */
const STOP_GRACE_S = 10

function toService(stack: Stack, name: string, content: Mapping): Service {
  const deploy = mapping(content['deploy'])
  const replicas = Number(text(deploy['replicas']) || '1')
  const stopGrace = content['stop_grace_period']
  return {
    name,
    stack,
    content,
    deploy,
    image: text(content['image']),
    words: [content['entrypoint'], content['command']].flatMap(words),
    environment: toEnvironment(content['environment']),
    networks: Array.isArray(content['networks'])
      ? content['networks'].map(text)
      : Object.keys(mapping(content['networks'])),
    mounts: [
      ...list(content['volumes']).map(toMount),
      ...list(content['tmpfs']).map((one) => ({
        type: 'tmpfs',
        source: '',
        target: text(one).split(':')[0] ?? '',
      })),
    ],
    ports: list(content['ports']).map(toPort),
    configs: list(content['configs']).map((one) => toReference(one, '/')),
    secrets: list(content['secrets']).map((one) => toReference(one, '/run/secrets/')),
    constraints: list(at(deploy, 'placement', 'constraints')).map((one) =>
      text(one).replaceAll(/\s/g, ''),
    ),
    mode: text(deploy['mode']) || 'replicated',
    replicas,
    stopGraceS: stopGrace === undefined ? STOP_GRACE_S : seconds(stopGrace),
  }
}

function words(value: unknown): string[] {
  return typeof value === 'string' ? (value.match(/\S+/g) ?? []) : list(value).map(text)
}

function toEnvironment(value: unknown): ReadonlyMap<string, string> {
  if (!Array.isArray(value))
    return new Map(Object.entries(mapping(value)).map(([key, one]) => [key, text(one)]))
  return new Map(
    value.map((one) => {
      const [key = '', ...rest] = text(one).split('=')
      return [key, rest.join('=')]
    }),
  )
}

function toMount(value: unknown): Mount {
  if (typeof value !== 'string') {
    const { type, source, target } = mapping(value)
    return { type: text(type), source: text(source), target: text(target) }
  }
  const [source = '', target] = value.split(':')
  if (target === undefined) return { type: 'volume', source: '', target: source }
  return { type: /^[./~]/.test(source) ? 'bind' : 'volume', source, target }
}

function toPort(value: unknown): Port {
  if (typeof value === 'string' || typeof value === 'number') {
    const [ports = '', protocol = 'tcp'] = text(value).split('/')
    return { published: ports.split(':').at(-2) ?? '', protocol, mode: 'ingress' }
  }
  const { published, protocol, mode } = mapping(value)
  return {
    published: text(published),
    protocol: text(protocol) || 'tcp',
    mode: text(mode) || 'ingress',
  }
}

function toReference(value: unknown, folder: string): Reference {
  const { source, target } =
    typeof value === 'string' ? { source: value, target: undefined } : mapping(value)
  const path = text(target) || text(source)
  return { source: text(source), target: path.startsWith('/') ? path : `${folder}${path}` }
}
