/**
 * A stack file as Docker reads it, every variable filled in, and what of it is a change: each service carries
 * a digest of its meaning in a label, so that Docker itself can be asked what runs.
 */
import type { Context } from './context.ts'
import { arrayOf, isRecord, pick, textOf } from './json.ts'
import { MEANING_LABEL } from './names.ts'
import { OperatorError } from './operator.ts'
import type { Rendered } from './render.ts'
import { digestOf } from './secrets.ts'
import { readYaml, writeYaml } from './yaml.ts'

type Tree = Readonly<Record<string, unknown>>

export interface Resolved {
  readonly services: Tree
  /** Networks, volumes, secrets and configs. */
  readonly rest: Tree
}

export async function resolve(
  { docker, folder }: Pick<Context, 'docker' | 'folder'>,
  { path, env: given, names }: Rendered,
): Promise<Resolved> {
  // Else the operator's own environment would decide what is deployed, and another operator's something else.
  const env = { ...Object.fromEntries(names.map((name) => [name, undefined])), ...given }
  const text = await folder.withWritten(path, (file) =>
    docker.read(['stack', 'config', '--compose-file', file], { env }),
  )
  const { services, version: _, ...rest } = treeOf(readYaml(text))
  const labelled = Object.entries(treeOf(services)).map(([name, service]) => [
    name,
    withLabel(service, digestOf(meaningOf(service, rest))),
  ])
  return { services: Object.fromEntries(labelled), rest }
}

/** The digest of a service's meaning. */
export function digestIn({ services }: Resolved, name: string): string {
  return textOf(pick(services, name, 'deploy', 'labels', MEANING_LABEL))
}

/** Docker encrypts where the option is there, whatever its value. */
function isEncrypted(options: unknown): boolean {
  return pick(options, 'encrypted') !== undefined
}

/** Docker leaves networks that exist as they are, without a word: members would let in the wrong addresses. */
export async function checkNetworks(
  { docker }: Pick<Context, 'docker'>,
  { rest }: Resolved,
): Promise<void> {
  for (const wanted of Object.values(treeOf(rest['networks']))) {
    const name = textOf(pick(wanted, 'name'))
    if (pick(wanted, 'external') === true || name === '') continue
    const text = await docker.find(['network', 'inspect', name])
    const [found] = text === undefined ? [] : arrayOf(JSON.parse(text))
    if (found === undefined) continue
    const [asked] = arrayOf(pick(wanted, 'ipam', 'config')).map((one) => pick(one, 'subnet'))
    const [has] = arrayOf(pick(found, 'IPAM', 'Config')).map((one) => pick(one, 'Subnet'))
    const isSame =
      (asked === undefined || asked === has) &&
      isEncrypted(pick(wanted, 'driver_opts')) === isEncrypted(pick(found, 'Options'))
    if (isSame) continue
    throw new OperatorError(
      `the network ${name} exists with the subnet ${textOf(has)}, ${isEncrypted(pick(found, 'Options')) ? '' : 'not '}encrypted, and cluster.env says otherwise`,
      'A network cannot change while it is used: set the subnet and ENCRYPTED back in cluster.env, or run `down` (which keeps data and keys) and then `up`.',
    )
  }
}

/** As `docker stack deploy` takes it: there a dollar sign is doubled once more. */
export function deployText({ services, rest }: Resolved): string {
  return writeYaml({ ...rest, services }).replaceAll('$', () => '$$')
}

const KINDS = ['configs', 'secrets'] as const

/** A service with its secrets and configs by their names in Docker: the keys in the file say nothing. */
function meaningOf(service: unknown, rest: Tree): string {
  const meant = { ...treeOf(service) }
  for (const kind of KINDS) {
    meant[kind] = arrayOf(meant[kind]).map((use) => {
      const key = String(pick(use, 'source'))
      const target = pick(use, 'target') ?? key
      return Object.assign({}, use, { target, source: pick(rest, kind, key, 'name') })
    })
  }
  return JSON.stringify(meant, sortedKeys)
}

/** For JSON.stringify: an object's order of keys says nothing either. */
function sortedKeys(_: string, value: unknown): unknown {
  return isRecord(value)
    ? Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)))
    : value
}

/** A label of the service, not of its containers: it changes without a restart. */
function withLabel(service: unknown, digest: string): Tree {
  const deploy = treeOf(pick(service, 'deploy'))
  const labels = { ...treeOf(deploy['labels']), [MEANING_LABEL]: digest }
  return { ...treeOf(service), deploy: { ...deploy, labels } }
}

function treeOf(value: unknown): Tree {
  return isRecord(value) ? value : {}
}
