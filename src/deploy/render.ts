/**
 * The stack files as they are deployed: for the cluster's slots, with the names of configs by their content,
 * written to rendered/ with everything they name, so that what was deployed can be read and compared.
 */
import { readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { isMap } from 'yaml'
import type { Context } from './context.ts'
import { expand, type Slots } from './expand.ts'
import { isRecord, pick, textOf } from './json.ts'
import { memberNames, PUBLISHED, type Stack } from './names.ts'
import { OperatorError } from './operator.ts'
import { digestOf } from './secrets.ts'
import type { Settings } from './settings.ts'
import { documentText, readDocument, readYaml } from './yaml.ts'

export interface Rendered {
  /** The stack file, and its path below the cluster's folder. */
  readonly file: string
  readonly path: readonly string[]
  /** What the file is deployed with. */
  readonly env: Readonly<Record<string, string>>
  /** Every variable that the file names: those that are not in `env` have no value. */
  readonly names: readonly string[]
  /** Every variable that the file insists on and that has no value. */
  readonly missing: readonly string[]
}

/** `generated` are files of configs that the tool writes itself: path below deploy/, and text. */
export function render(
  { folder, deploy }: Pick<Context, 'folder' | 'deploy'>,
  settings: Settings,
  stack: Stack,
  generated: Readonly<Record<string, string>> = {},
): Rendered {
  const slots: Slots = {
    members: settings.members.map(({ slot }) => slot),
    etcd: settings.etcd.map(({ slot }) => slot),
  }
  const read = (path: string): string => generated[path] ?? readFileSync(join(deploy, path), 'utf8')
  const source = readStack(read, stack)
  const whole = published(read, expand(`${stack}.yml`, source, slots), { settings, stack })
  const text = withoutEncryption(whole, settings)
  const digests: Record<string, string> = {}
  for (const { path, variable } of configsOf(source, stack)) {
    // What the tool wrote itself has all members already.
    const config = generated[path] ?? expand(path, readConfig(read, path, stack), slots)
    folder.write(config, 'rendered', ...path.split('/'))
    if (variable !== undefined) digests[variable] = digestOf(config)
  }
  const path = ['rendered', `${stack}.yml`]
  const file = folder.write(text, ...path)
  const env = { MEMBERS: memberNames(settings).join(','), ...settings.env, ...digests }
  const names = [...text.matchAll(/(?<!\$)\$\{?([A-Za-z_]\w*)/g)].map(([, name = '']) => name)
  return { file, path, env, names, missing: missingIn(text, env) }
}

function readStack(read: (path: string) => string, stack: Stack): string {
  try {
    return read(`${stack}.yml`)
  } catch (error) {
    throw new OperatorError(
      `deploy/${stack}.yml is missing`,
      'Use a whole checkout or package of pgsteer.',
      error,
    )
  }
}

function readConfig(read: (path: string) => string, path: string, stack: Stack): string {
  try {
    return read(path)
  } catch (error) {
    throw new OperatorError(
      `deploy/${path}, a config of ${stack}.yml, is missing`,
      'Use a whole checkout or package of pgsteer.',
      error,
    )
  }
}

/** The files of a stack's configs, and the variable that carries each one's digest. */
function configsOf(text: string, stack: Stack): { path: string; variable: string | undefined }[] {
  const configs = pick(readYaml(text), 'configs')
  return Object.values(isRecord(configs) ? configs : {}).flatMap((config) => {
    const file = textOf(pick(config, 'file'))
    if (file === '') return []
    const path = relative('.', join(dirname(`${stack}.yml`), file))
    return [{ path, variable: /\$\{([A-Z0-9_]+_SHA)\b/.exec(textOf(pick(config, 'name')))?.[1] }]
  })
}

/** What STACK-publish.yml publishes, where the setting of its port is there. */
function published(
  read: (path: string) => string,
  text: string,
  { settings, stack }: { settings: Settings; stack: Stack },
): string {
  const port = PUBLISHED[stack]
  if (port === undefined || (settings.env[port] ?? '') === '') return text
  const document = readDocument(text)
  const services = pick(readYaml(read(`${stack}-publish.yml`)), 'services')
  for (const [name, service] of Object.entries(isRecord(services) ? services : {}))
    document.setIn(['services', name, 'ports'], document.createNode(pick(service, 'ports')))
  return documentText(document)
}

/** Docker encrypts where the option is there, whatever its value. */
function withoutEncryption(text: string, { env }: Settings): string {
  if (env['ENCRYPTED'] !== 'false') return text
  const document = readDocument(text)
  const networks = document.get('networks')
  for (const { key } of isMap(networks) ? networks.items : []) {
    const option = ['networks', String(key), 'driver_opts', 'encrypted']
    if (document.hasIn(option)) document.deleteIn(option)
  }
  return documentText(document)
}

/** `${NAME:?...}` and `${NAME?...}` without a value. */
function missingIn(text: string, env: Readonly<Record<string, string>>): string[] {
  const names = [...text.matchAll(/(?<!\$)\$\{([A-Z][A-Z0-9_]*):?\?/g)].map(([, name = '']) => name)
  return [...new Set(names)].filter((name) => (env[name] ?? '') === '')
}
