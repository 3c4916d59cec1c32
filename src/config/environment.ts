/**
 * The environment as a source of keys: `PGSTEER_<KEY>` for [pgbouncer] and [pgsteer],
 * `PGSTEER_CLUSTER_<KEY>` for [cluster], each also as `..._FILE`, whose file holds the value. The
 * environment goes before the file. Entries of [databases], [users] and [peers] are not read here.
 */
import { reasonOf } from '../base/errors.ts'
import { type Files, INI_BYTES_MAX } from './files.ts'
import { KEY_SECTIONS, type KeySection, keysOf } from './keys.ts'
import { type Problems, quoted } from './problem.ts'

/** A value as it was found, and where. */
export interface Setting {
  readonly text: string
  readonly place: { readonly file: string; readonly line: number | null }
}

export type Settings = Readonly<Record<KeySection, Map<string, Setting>>>

const PREFIX = 'PGSTEER_'

/** What Kubernetes sets for a service named pgsteer; not ours. */
const FOREIGN =
  /^PGSTEER_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP)(?:_\w+)?)?)$/

interface Target {
  readonly section: KeySection
  readonly key: string
  readonly isFile: boolean
}

/** The variable that holds a key: `PGSTEER_POOL_MODE`, `PGSTEER_CLUSTER_SCOPE`. */
export function variableOf(section: KeySection, key: string): string {
  return `${PREFIX}${section === 'cluster' ? 'CLUSTER_' : ''}${key.toUpperCase()}`
}

const TARGETS: ReadonlyMap<string, Target> = new Map(
  KEY_SECTIONS.flatMap((section) =>
    Object.keys(keysOf(section)).flatMap((key): [string, Target][] => [
      [variableOf(section, key), { section, key, isFile: false }],
      [`${variableOf(section, key)}_FILE`, { section, key, isFile: true }],
    ]),
  ),
)

/** Adds what the environment says to `settings`, over what is there. */
export function readEnvironment(
  env: NodeJS.ProcessEnv,
  settings: Settings,
  files: Files,
  problems: Problems,
): void {
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || value === undefined || FOREIGN.test(name)) continue
    const target = TARGETS.get(name)
    const place = { file: 'environment', line: null }
    if (target === undefined) {
      const remedy = problems.didYouMean(name, TARGETS.keys())
      problems.add(place, `unknown variable ${name}`, remedy)
      continue
    }
    if (target.isFile && env[name.slice(0, -'_FILE'.length)] !== undefined) {
      problems.add(place, `${name} and ${name.slice(0, -'_FILE'.length)} are both set`, 'keep one')
      continue
    }
    const text = target.isFile ? readValue(name, value, { files, problems }) : value
    if (text !== null)
      settings[target.section].set(target.key, { text, place: { file: name, line: null } })
  }
}

function readValue(
  name: string,
  path: string,
  to: { files: Files; problems: Problems },
): string | null {
  try {
    return to.files.read(to.files.locate(path), INI_BYTES_MAX).replace(/\r?\n$/, '')
  } catch (error) {
    const place = { file: 'environment', line: null }
    to.problems.add(place, `${name}: cannot read ${quoted(path)}: ${reasonOf(error)}`)
    return null
  }
}
