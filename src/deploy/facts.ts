/**
 * What the cluster says of itself, asked by a job with the image's `facts` command from inside of its
 * networks. Reads its JSON into values; judges nothing.
 */
import type { Context } from './context.ts'
import { ADMIN_SECRETS, Jobs } from './job.ts'
import { arrayOf, isRecord, pick, textOf } from './json.ts'
import { etcdNames, memberNames, type Network, networkName } from './names.ts'
import { OperatorError } from './operator.ts'
import type { Settings } from './settings.ts'
import { networksOf } from './steps.ts'

export interface Member {
  readonly name: string
  /** As Patroni's /cluster says: leader, replica, sync_standby, quorum_standby, standby_leader. */
  readonly role: string
  readonly state: string
  readonly timeline: number | undefined
  readonly lagBytes: number | undefined
  /** What stands in the way when it does not answer. */
  readonly error: string
  /** When the certificate that it shows ends. */
  readonly certificateEndsMs: number | undefined
}

export interface EtcdMember {
  readonly name: string
  readonly isLeader: boolean
  readonly version: string
  readonly error: string
  readonly certificateEndsMs: number | undefined
}

export interface Pgsteer {
  readonly address: string
  readonly isReady: boolean
  readonly says: string
}

export interface Alert {
  readonly name: string
  readonly severity: string
  readonly instance: string
  readonly says: string
}

export interface Facts {
  readonly members: readonly Member[]
  readonly etcd: readonly EtcdMember[]
  readonly pgsteer: readonly Pgsteer[]
  /** Patroni was told to keep its hands off. */
  readonly isPaused: boolean
  /** Patroni's dynamic configuration; undefined when no member answers. */
  readonly config: Readonly<Record<string, unknown>> | undefined
  /** Numbers of the repository host; undefined when it does not answer. */
  readonly backups: Readonly<Record<string, number>> | undefined
  /** Undefined without monitoring. */
  readonly alerts: readonly Alert[] | undefined
}

const ASK_MS = 120_000
/** The heartbeat alert fires always, to show that alerts arrive. */
const HEARTBEAT = 'heartbeat'

/** One look at everything. Errors: OperatorError when the job cannot run. */
export async function readFacts(context: Context, settings: Settings): Promise<Facts> {
  const { output } = await new Jobs(context).run(settings, {
    what: 'facts',
    command: ['facts'],
    ...(await surroundings(context, settings)),
    isReadOnly: true,
    deadlineMs: ASK_MS,
  })
  return factsOf(output)
}

/**
 * Waits until the cluster lacks nothing, telling what it lacks whenever that changes. Errors: OperatorError
 * with what is still lacking after `seconds`.
 */
export async function waitUntilWell(
  context: Context,
  settings: Settings,
  { seconds, tasks, without }: { seconds: number; tasks: number; without: readonly string[] },
): Promise<void> {
  let lacks: readonly string[] = []
  const onLine = (line: string): void => {
    const said = arrayOf(pick(parsed(line), 'lacks')).map(textOf)
    if (parsed(line) === undefined || pick(parsed(line), 'lacks') === undefined) return
    lacks = said
    if (said.length > 0) context.output.step(`waiting for ${said.join('; ')}`)
  }
  const around = await surroundings(context, settings, without)
  const { isOk } = await new Jobs(context).run(settings, {
    what: 'wait',
    command: ['facts', 'wait', String(seconds)],
    ...around,
    env: { ...around.env, PGSTEER_COUNT: String(tasks) },
    isReadOnly: false,
    deadlineMs: seconds * 1000 + ASK_MS,
    onLine,
  })
  if (isOk) return
  throw new OperatorError(
    `the cluster is not well after ${seconds} s: ${lacks.join('; ')}`,
    `Look at \`status\` and at \`docker service logs ${settings.cluster}_SERVICE\` of what is named above. \`up\` may be run again at any time.`,
  )
}

async function surroundings(context: Context, settings: Settings, without: readonly string[] = []) {
  const present = new Set(await networksOf(context, settings.cluster))
  const networks = (['dcs', 'db', 'monitoring'] as const).filter(
    (network: Network) =>
      network !== 'monitoring' || present.has(networkName(settings.cluster, network)),
  )
  const listed = (names: readonly string[]): string =>
    names.filter((name) => !without.includes(name)).join(',')
  const env = { MEMBERS: listed(memberNames(settings)), ETCD: listed(etcdNames(settings)) }
  return { networks, secrets: ADMIN_SECRETS, env }
}

function parsed(line: string): unknown {
  return line.startsWith('{') ? JSON.parse(line) : undefined
}

/** The last line of JSON as values. Errors: OperatorError if there is none. */
export function factsOf(output: string): Facts {
  const line = output.split('\n').findLast((one) => one.startsWith('{'))
  if (line === undefined)
    throw new OperatorError(
      `the cluster did not say how it is: ${output.trim().split('\n').at(-1) ?? ''}`,
      'See `docker node ls` and `docker stack ps`: the job runs from NODE_IMAGE on any node.',
    )
  const value: unknown = JSON.parse(line)
  const said = arrayOf(pick(value, 'cluster', 'members'))
  const config = pick(value, 'config')
  const alerts = pick(value, 'alerts')
  return {
    members: arrayOf(pick(value, 'members')).map((one) => memberOf(one, said)),
    etcd: arrayOf(pick(value, 'etcd')).map(etcdOf),
    pgsteer: arrayOf(pick(value, 'pgsteer')).map((one) => ({
      address: textOf(pick(one, 'address')),
      isReady: pick(one, 'ready') === true,
      says: textOf(pick(one, 'says')),
    })),
    isPaused: pick(value, 'cluster', 'pause') === true,
    config: isRecord(config) && config['error'] === undefined ? config : undefined,
    backups: numbersOf(pick(value, 'backups')),
    alerts: Array.isArray(alerts)
      ? alerts.map(alertOf).filter(({ severity }) => severity !== HEARTBEAT)
      : undefined,
  }
}

function memberOf(value: unknown, said: readonly unknown[]): Member {
  const name = textOf(pick(value, 'name'))
  const one = said.find((other) => pick(other, 'name') === name)
  return {
    name,
    role: textOf(pick(one, 'role')),
    state: textOf(pick(one, 'state')) || textOf(pick(value, 'state')),
    timeline: numberOf(pick(one, 'timeline')),
    lagBytes: numberOf(pick(one, 'lag')),
    error:
      one === undefined
        ? textOf(pick(value, 'error')) || 'not yet a member'
        : textOf(pick(value, 'error')),
    certificateEndsMs: endsOf(value),
  }
}

function etcdOf(value: unknown): EtcdMember {
  return {
    name: textOf(pick(value, 'name')),
    isLeader: pick(value, 'leader') === true,
    version: textOf(pick(value, 'version')),
    error: textOf(pick(value, 'error')),
    certificateEndsMs: endsOf(value),
  }
}

function alertOf(value: unknown): Alert {
  const text = (key: string): string => textOf(pick(value, key))
  return {
    name: text('name'),
    severity: text('severity'),
    instance: text('instance'),
    says: text('says'),
  }
}

function endsOf(value: unknown): number | undefined {
  const seconds = numberOf(pick(value, 'ends'))
  return seconds === undefined ? undefined : seconds * 1000
}

function numberOf(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined
}

function numbersOf(value: unknown): Record<string, number> | undefined {
  if (!isRecord(value) || value['error'] !== undefined) return undefined
  return Object.fromEntries(
    Object.entries(value).filter(
      (entry): entry is [string, number] => typeof entry[1] === 'number',
    ),
  )
}

/** The member that Patroni calls leader. */
export function leaderOf({ members }: Facts): Member | undefined {
  return members.find(({ role }) => role === 'leader' || role === 'standby_leader')
}
