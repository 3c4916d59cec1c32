/**
 * The cluster's settings: one file of KEY=value lines, cluster.env, that `init` writes with a comment for
 * each key and that the operator may edit. It is also the environment of the stack files. Knows the keys
 * and their rules, not where the file is, and no secret.
 */
import { parseEnv } from 'node:util'
import { OperatorError } from './operator.ts'
import {
  COUNT,
  doOverlap,
  memoryFrom,
  orEmpty,
  PORT,
  type Rule,
  SCHEDULE,
  SUBNET,
  upTo,
} from './values.ts'

/** One numbered place of a member, and the node that has it. */
export interface Slot {
  readonly slot: number
  /** The node's hostname or id, as `docker node ls` shows it. */
  readonly node: string
}

export interface Settings {
  readonly cluster: string
  readonly members: readonly Slot[]
  readonly etcd: readonly Slot[]
  readonly backupNode: string
  readonly monitoringNode: string
  readonly nodeImage: string
  readonly pgsteerImage: string
  readonly certEpoch: number
  readonly authEpoch: number
  readonly certDays: number
  readonly publicNames: readonly string[]
  /** Images are on the nodes already and may not be asked for at a registry. */
  readonly isLocalImages: boolean
  /** Every key of the file, for the stack files' environment. */
  readonly env: Readonly<Record<string, string>>
}

interface Row {
  readonly name: string
  /** Undefined: must be given. Empty: may stay empty. */
  readonly initial?: string
  readonly what: string
  readonly rule: Rule
  readonly shape: string
}

/** A setting of cluster.env that becomes an option of pgBackRest: BACKUP_REPO2_S3_BUCKET is repo2-s3-bucket. */
export const REPOSITORY_SETTING = /^BACKUP_REPO([1-9])_([A-Z][A-Z0-9_]*)$/

const SLOTS = /^\d+:[^,:\s]+(,\d+:[^,:\s]+)*$/
/** Docker's names have 64 characters at most, and the longest of ours adds 35. */
const NAME = /^(?!.*-(?:monitoring|tools)$)[a-z](?:[a-z0-9-]{0,27}[a-z0-9])?$/
/** The least with which PostgreSQL and Patroni start. */
const MEMORY_MIB_MIN = 256
/** No client takes a longer one, and the authority lasts ten years. */
const CERT_DAYS_MAX = 825
const ANY = /^\S*$/

/** In the order in which the file has them. */
const ROWS: readonly Row[] = [
  {
    name: 'CLUSTER',
    rule: NAME,
    shape:
      'at most 29 lower-case letters, digits and - (not at the end, nor -monitoring or -tools)',
    what: "The name of the cluster: of its stack, of Patroni's scope and of pgBackRest's stanza.",
  },
  {
    name: 'PG_NODES',
    rule: SLOTS,
    shape: 'slot:node,slot:node',
    what: 'The members of PostgreSQL: slot:node. A slot keeps its number for ever, since its data is on that node.',
  },
  {
    name: 'ETCD_NODES',
    rule: SLOTS,
    shape: 'slot:node,slot:node',
    what: 'The members of etcd, three or five, on nodes of their own where there are more than three.',
  },
  {
    name: 'PGBACKREST_NODE',
    rule: /^\S+$/,
    shape: 'a node',
    what: 'The node of the backup repository.',
  },
  {
    name: 'MONITORING_NODE',
    rule: /^\S+$/,
    shape: 'a node',
    what: 'The node of Prometheus, Alertmanager and Grafana.',
  },
  {
    name: 'NODE_IMAGE',
    rule: /^\S+$/,
    shape: 'an image with tag',
    what: 'The image of the database nodes (deploy/images/node), with tag and best with digest.',
  },
  {
    name: 'PGSTEER_IMAGE',
    rule: /^\S+$/,
    shape: 'an image with tag',
    what: 'The image of pgsteer.',
  },
  {
    name: 'LOCAL_IMAGES',
    initial: 'false',
    rule: /^(true|false)$/,
    shape: 'true or false',
    what: 'true: every node has the images already, and no registry is asked.',
  },
  {
    name: 'PG_MEMORY',
    initial: '4G',
    rule: memoryFrom(MEMORY_MIB_MIN),
    shape: 'a size like 4G, from 256M',
    what: 'Memory of one member, limit and reservation alike.',
  },
  {
    name: 'PGSTEER_PORT',
    initial: '6432',
    rule: PORT,
    shape: 'a port',
    what: 'The port that every node publishes for applications.',
  },
  {
    name: 'PUBLIC_NAMES',
    initial: '',
    rule: ANY,
    shape: 'names and addresses, comma-separated',
    what: 'Names and addresses that applications connect to; they go into the certificate of pgsteer. The names and addresses of the nodes are in it anyway.',
  },
  {
    name: 'ENCRYPTED',
    initial: 'true',
    rule: /^(true|false)$/,
    shape: 'true or false',
    what: 'Encryption of the overlay networks by IPsec (needs ESP in the kernels and in the firewall). TLS is there in either case.',
  },
  {
    name: 'DCS_SUBNET',
    initial: '10.77.1.0/24',
    rule: SUBNET,
    shape: 'a subnet by its first address, like 10.77.1.0/24',
    what: 'Subnets of the overlay networks; they may not overlap with what the nodes reach otherwise.',
  },
  {
    name: 'DB_SUBNET',
    initial: '10.77.2.0/24',
    rule: SUBNET,
    shape: 'a subnet by its first address, like 10.77.2.0/24',
    what: '',
  },
  {
    name: 'FRONT_SUBNET',
    initial: '10.77.3.0/24',
    rule: SUBNET,
    shape: 'a subnet by its first address, like 10.77.3.0/24',
    what: '',
  },
  {
    name: 'MONITORING_SUBNET',
    initial: '10.77.4.0/24',
    rule: SUBNET,
    shape: 'a subnet by its first address, like 10.77.4.0/24',
    what: '',
  },
  {
    name: 'DOCKER_SOCKET',
    initial: '/var/run/docker.sock',
    rule: /^\/\S+$/,
    shape: 'a path',
    what: "Where every node's Docker listens, for removing volumes; {{.Node.Hostname}} may be in it.",
  },
  {
    name: 'CERT_DAYS',
    initial: '90',
    rule: upTo(CERT_DAYS_MAX),
    shape: 'a number of days, 825 at most',
    what: 'How long certificates are valid; `rotate-certs` makes new ones.',
  },
  {
    name: 'CERT_EPOCH',
    initial: '1',
    rule: COUNT,
    shape: 'a number from 1',
    what: 'Which generation of certificates the services use; `rotate-certs` counts it up.',
  },
  {
    name: 'AUTH_EPOCH',
    initial: '1',
    rule: COUNT,
    shape: 'a number from 1',
    what: 'Which generation of passwords, keys of repositories and receivers of alerts the services use. Count it up when you have changed one; passwords of roles are carried over.',
  },
]

/** Keys that only the stack files know, where a wrong value would show late. */
const OTHER_RULES: readonly Pick<Row, 'name' | 'rule' | 'shape'>[] = [
  ...['BACKUP_FULL', 'BACKUP_DIFF', 'BACKUP_INCR', 'BACKUP_RESTORE_TEST'].map((name) => ({
    name,
    rule: orEmpty(SCHEDULE),
    shape: 'five fields as of crontab, like 0 1 * * sun (0 is Monday), or off',
  })),
  ...['GRAFANA_PORT', 'PGADMIN_PORT'].map((name) => ({
    name,
    rule: orEmpty(PORT),
    shape: 'a port',
  })),
  { name: 'BACKUP_REPOSITORIES', rule: orEmpty(upTo(9)), shape: 'a number from 1 to 9' },
  { name: 'PGSTEER_MEMBER_CONNECTIONS_MAX', rule: orEmpty(COUNT), shape: 'a number from 1' },
]

const SUBNETS = ['DCS_SUBNET', 'DB_SUBNET', 'FRONT_SUBNET', 'MONITORING_SUBNET'] as const

const KNOWN = new Set(ROWS.map(({ name }) => name))

/** Keys without which nothing can be made, and that `init` works out where it can. */
export const REQUIRED: readonly string[] = ROWS.filter(({ initial }) => initial === undefined).map(
  ({ name }) => name,
)

/**
 * The file's text as settings. `extra` are keys that the stack files ask for besides.
 * Errors: OperatorError that names the key, the rule that it breaks, and what it should be.
 */
export function parseSettings(text: string, extra: ReadonlySet<string>, file: string): Settings {
  checkTwice(text, file)
  const given = entriesOf(text)
  for (const name of Object.keys(given)) checkKnown(name, extra, file)
  const env = { ...defaults(), ...given }
  for (const row of ROWS) checkValue(row, env[row.name], file)
  for (const row of OTHER_RULES) checkValue({ initial: '', ...row }, env[row.name] ?? '', file)
  checkSubnets(env, file)
  const of = (name: string): string => env[name] ?? ''
  const settings: Settings = {
    cluster: of('CLUSTER'),
    members: slotsOf(of('PG_NODES')),
    etcd: slotsOf(of('ETCD_NODES')),
    backupNode: of('PGBACKREST_NODE'),
    monitoringNode: of('MONITORING_NODE'),
    nodeImage: of('NODE_IMAGE'),
    pgsteerImage: of('PGSTEER_IMAGE'),
    certEpoch: Number(of('CERT_EPOCH')),
    authEpoch: Number(of('AUTH_EPOCH')),
    certDays: Number(of('CERT_DAYS')),
    publicNames: of('PUBLIC_NAMES')
      .split(',')
      .filter((name) => name !== ''),
    isLocalImages: of('LOCAL_IMAGES') === 'true',
    env,
  }
  checkSlots('PG_NODES', settings.members, file)
  checkSlots('ETCD_NODES', settings.etcd, file)
  if (settings.etcd.length % 2 === 0)
    throw wrong(
      file,
      'ETCD_NODES',
      `names ${settings.etcd.length} members`,
      'Name three or five: an even number survives no more failures than one less.',
    )
  return settings
}

/** KEY=value lines, as Node and the shell read them. */
export function entriesOf(text: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(parseEnv(text)).map(([name, value]) => [name, value ?? '']),
  )
}

function defaults(): Record<string, string> {
  return Object.fromEntries(ROWS.map(({ name, initial = '' }) => [name, initial]))
}

function checkKnown(name: string, extra: ReadonlySet<string>, file: string): void {
  if (KNOWN.has(name) || extra.has(name) || REPOSITORY_SETTING.test(name)) return
  const nearest = [...KNOWN, ...extra].toSorted((a, b) => distance(name, a) - distance(name, b))[0]
  throw wrong(
    file,
    name,
    'is no setting',
    `Did you mean ${nearest ?? ''}? Mend or remove the line.`,
  )
}

/** Of two lines the last one would count, and the tool would change the first. */
function checkTwice(text: string, file: string): void {
  const seen = new Set<string>()
  for (const [, name = ''] of text.matchAll(/^[ \t]*(?:export[ \t]+)?([A-Z][A-Z0-9_]*)[ \t]*=/gm)) {
    if (seen.has(name)) throw wrong(file, name, 'is there twice', 'Remove one of the two lines.')
    seen.add(name)
  }
}

function checkSubnets(env: Readonly<Record<string, string>>, file: string): void {
  for (const [index, name] of SUBNETS.entries()) {
    const other = SUBNETS.slice(0, index).find((one) => doOverlap(env[one] ?? '', env[name] ?? ''))
    if (other !== undefined)
      throw wrong(
        file,
        name,
        `overlaps with ${other}`,
        'Give each network addresses of its own; which, is chosen before the first `up`.',
      )
  }
}

function checkValue(
  { name, rule, shape, initial }: Pick<Row, 'name' | 'rule' | 'shape' | 'initial'>,
  value: string | undefined,
  file: string,
): void {
  if (value === undefined || (value === '' && initial !== ''))
    throw wrong(
      file,
      name,
      'is not set',
      `Set ${name} to ${shape}, in the file or by \`init --set ${name}=...\`.`,
    )
  if (!rule.test(value)) throw wrong(file, name, `is '${value}'`, `Set it to ${shape}.`)
}

function checkSlots(name: string, slots: readonly Slot[], file: string): void {
  const numbers = new Set(slots.map(({ slot }) => slot))
  if (numbers.size !== slots.length || numbers.has(0))
    throw wrong(
      file,
      name,
      'gives a slot twice, or slot 0',
      'Give each member a number of its own from 1.',
    )
  if (new Set(slots.map(({ node }) => node)).size !== slots.length)
    throw wrong(
      file,
      name,
      'gives a node two members',
      'Name a node of its own for each member: two on one node die together.',
    )
}

function wrong(file: string, name: string, problem: string, remedy: string): OperatorError {
  return new OperatorError(`${file}: ${name} ${problem}`, remedy)
}

function slotsOf(text: string): Slot[] {
  return text
    .split(',')
    .map((one) => ({ slot: Number.parseInt(one, 10), node: one.slice(one.indexOf(':') + 1) }))
    .toSorted((a, b) => a.slot - b.slot)
}

export function slotsText(slots: readonly Slot[]): string {
  return slots.map(({ slot, node }) => `${slot}:${node}`).join(',')
}

/** A new file with these values, each key under its comment. Keys of the stack files come last. */
export function settingsText(values: Readonly<Record<string, string>>): string {
  const lines: string[] = []
  for (const { name, initial = '', what } of ROWS) {
    if (what !== '') lines.push('', ...wrapped(what))
    lines.push(`${name}=${values[name] ?? initial}`)
  }
  const others = Object.entries(values).filter(([name]) => !KNOWN.has(name))
  if (others.length > 0)
    lines.push(
      '',
      '# For the stack files, which say what each means.',
      ...others.map(([name, value]) => `${name}=${value}`),
    )
  return `# The settings of one cluster, for \`deploy/cluster\`. No secret belongs here.\n${lines.join('\n')}\n`
}

/** The file's text with these values, everything else as it was: comments, order, other keys. */
export function withSettings(text: string, values: Readonly<Record<string, string>>): string {
  let changed = text
  for (const [name, value] of Object.entries(values)) {
    const line = new RegExp(`^[ \\t]*(?:export[ \\t]+)?${name}[ \\t]*=.*$`, 'm')
    const entry = `${name}=${value}`
    changed = line.test(changed)
      ? changed.replace(line, () => entry)
      : `${changed.trimEnd()}\n${entry}\n`
  }
  return changed
}

const COMMENT_WIDTH = 100

function wrapped(text: string): string[] {
  const lines: string[] = ['#']
  for (const word of text.split(' ')) {
    const last = lines.at(-1) ?? ''
    if (last.length + word.length < COMMENT_WIDTH) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(`# ${word}`)
  }
  return lines
}

/** Edits that make one word of the other (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 0; i < a.length; i += 1) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j += 1)
      next.push(
        Math.min(
          (next[j] ?? 0) + 1,
          (row[j + 1] ?? 0) + 1,
          (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1),
        ),
      )
    row = next
  }
  return row.at(-1) ?? 0
}
