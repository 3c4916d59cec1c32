/** What kind of program a service of a stack file is, judged by what it is given and started with. */
import { readFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { type Mount, type Service, type Stack, text } from './stack.ts'

const NODE_IMAGE = resolve(import.meta.dirname, '../../deploy/images/node')

export function services(stack: Stack): readonly Service[] {
  return [...stack.services.values()]
}

/** Job services run to their end: they need no restart, and nothing is left when they are done. */
export function isJob({ mode, stack, content }: Service): boolean {
  if (stack.kind === 'swarm') return mode.endsWith('-job')
  return ['', 'no'].includes(text(content['restart']))
}

export function isEtcd({ environment, image }: Service): boolean {
  return environment.has('ETCD_NAME') || /(?:^|\/)etcd(?::|@|$)/.test(image)
}

export function isPatroni({ environment, image }: Service): boolean {
  return environment.has('PATRONI_NAME') || /(?:^|\/)patroni(?::|@|$)/.test(image)
}

/** Runs PostgreSQL, under Patroni or bare. */
export function isDatabase(service: Service): boolean {
  return isPatroni(service) || /(?:^|\/)postgres(?:ql)?(?::|@|$)/.test(service.image)
}

/** Named volumes: what it keeps when its container goes. */
export function volumesOf({ mounts }: Service): readonly Mount[] {
  return mounts.filter(({ type, source }) => type === 'volume' && source !== '')
}

/** A global service has one task per node, and so one volume per task, by itself. */
export function isStateful(service: Service): boolean {
  return service.mode !== 'global' && !isJob(service) && volumesOf(service).length > 0
}

/**
 * The text of what a service starts: its words, and the script of the node image that the first of
 * them names.
 */
export function startOf({ words }: Service): string {
  const scripts = words.filter((word) => /^[/\w.-]+$/.test(word)).map(script)
  return [words.join(' '), ...scripts].join('\n')
}

function script(word: string): string {
  try {
    return readFileSync(join(NODE_IMAGE, basename(word)), 'utf8')
  } catch {
    return ''
  }
}

/** Node labels that a service insists on: `pg.slot` with `2`. */
export function labelsOf({ constraints }: Service): ReadonlyMap<string, string> {
  const matches = constraints.map((one) => /^node\.labels\.([\w.-]+)==(.+)$/.exec(one))
  return new Map(
    matches.flatMap((match): [string, string][] => {
      const [, label, value] = match ?? []
      return label === undefined || value === undefined ? [] : [[label, value]]
    }),
  )
}

/** Whether tasks of both may be on one node, as far as their labels tell. */
export function mayMeet(a: Service, b: Service): boolean {
  const labels = labelsOf(b)
  return [...labelsOf(a)].every(([label, value]) => (labels.get(label) ?? value) === value)
}
