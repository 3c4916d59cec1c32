/**
 * `status`: the whole cluster at a glance, and what is wrong with it. The report is a value, so that people
 * and programs read the same.
 */
import { type Context, settingsOf } from './context.ts'
import { type Facts, leaderOf, readFacts } from './facts.ts'
import { stackName } from './names.ts'
import { readNodes, type SwarmNode } from './nodes.ts'
import { table } from './operator.ts'
import { certificateEnds } from './secrets.ts'
import type { Settings } from './settings.ts'

export interface Status {
  readonly cluster: string
  readonly isWell: boolean
  /** Sentences, the worst first. */
  readonly problems: readonly string[]
  readonly members: readonly (Facts['members'][number] & { readonly node: string })[]
  readonly etcd: readonly (Facts['etcd'][number] & { readonly node: string })[]
  readonly pgsteer: Facts['pgsteer']
  readonly nodes: readonly {
    hostname: string
    isReady: boolean
    isManager: boolean
    engine: string
  }[]
  /** Seconds since the last success, by what it is; undefined when the repository does not answer. */
  readonly backups: Readonly<Record<string, number>> | undefined
  readonly certificates: readonly { name: string; endsMs: number }[]
  readonly alerts: Facts['alerts']
}

const DAY_MS = 86_400_000
const CERTIFICATE_DAYS_MIN = 21
const LAG_BYTES_MAX = 67_108_864
const BACKUP_AGE_MS_MAX = 26 * 3_600_000

/** Prints the report; answers whether all is well. */
export async function status(context: Context, isJson: boolean): Promise<boolean> {
  const found = await readStatus(context)
  context.output.print(
    isJson ? JSON.stringify(found, null, 2) : statusText(found, context.clock.wallMs()),
  )
  return found.isWell
}

async function readStatus(context: Context): Promise<Status> {
  const settings = settingsOf(context)
  const nodes = await readNodes(context.docker)
  const services = await context.docker.lines([
    'stack',
    'services',
    stackName(settings.cluster, 'stack'),
    '--format',
    '{{.Name}}\t{{.Replicas}}',
  ])
  const facts = await readFacts(context, settings)
  return report(settings, facts, {
    nodes,
    services,
    certificates: certificateEnds(context.folder, settings),
    nowMs: context.clock.wallMs(),
  })
}

export interface Surroundings {
  readonly nodes: readonly SwarmNode[]
  /** NAME, a tab, and RUNNING/WANTED. */
  readonly services: readonly string[]
  readonly certificates: readonly { name: string; endsMs: number }[]
  readonly nowMs: number
}

/** The node of a member: the number at the end of its name is its slot. */
function nodeOf(slots: Settings['members'], name: string): string {
  const number = Number(/\d+$/.exec(name)?.[0])
  return slots.find(({ slot }) => slot === number)?.node ?? ''
}

/** What the facts amount to. */
export function report(settings: Settings, facts: Facts, around: Surroundings): Status {
  const { nodes, certificates } = around
  const problems = [
    ...memberProblems(facts, settings),
    ...etcdProblems(facts),
    ...serviceProblems(facts, around),
    ...backupProblems(facts, around.nowMs),
    ...certificateProblems(facts, around),
    ...(facts.alerts ?? []).map(({ name, severity, instance, says }) =>
      `alert ${name} (${severity}) ${instance} ${says}`.trim(),
    ),
  ]
  return {
    cluster: settings.cluster,
    isWell: problems.length === 0,
    problems,
    members: facts.members.map((member) => ({
      ...member,
      node: nodeOf(settings.members, member.name),
    })),
    etcd: facts.etcd.map((member) => ({ ...member, node: nodeOf(settings.etcd, member.name) })),
    pgsteer: facts.pgsteer,
    nodes: nodes.map(({ hostname, isReady, isManager, engine }) => ({
      hostname,
      isReady,
      isManager,
      engine,
    })),
    backups: facts.backups,
    certificates,
    alerts: facts.alerts,
  }
}

function memberProblems(facts: Facts, settings: Settings): string[] {
  const leader = leaderOf(facts)
  const timeline = leader?.timeline
  return [
    ...(leader === undefined
      ? ['no primary: see `docker service logs` of the patroni services']
      : []),
    ...(facts.isPaused ? ['Patroni is paused: nothing fails over until somebody resumes it'] : []),
    ...facts.members.flatMap((member) => {
      if (member.error !== '') return [`${member.name}: ${member.error}`]
      if (member === leader) return []
      if (member.state !== 'streaming')
        return [`${member.name} does not stream: it is ${member.state}`]
      if (timeline !== undefined && member.timeline !== timeline)
        return [
          `${member.name} is on timeline ${member.timeline ?? '?'}, the primary on ${timeline}`,
        ]
      if ((member.lagBytes ?? 0) > LAG_BYTES_MAX)
        return [`${member.name} is ${sizeText(member.lagBytes ?? 0)} behind`]
      return []
    }),
    ...(settings.members.length > 1 &&
    leader !== undefined &&
    !facts.members.some(({ role }) => /sync|quorum/.test(role))
      ? ['no synchronous replica: a failover now may lose what was acknowledged']
      : []),
  ]
}

function etcdProblems({ etcd }: Facts): string[] {
  const down = etcd.filter(({ error }) => error !== '')
  const isQuorum = (etcd.length - down.length) * 2 > etcd.length
  return [
    ...(isQuorum ? [] : ['etcd has no quorum: no failover is possible']),
    ...down.map(({ name, error }) => `${name}: ${error}`),
  ]
}

function serviceProblems({ pgsteer }: Facts, { nodes, services }: Surroundings): string[] {
  return [
    ...(pgsteer.some(({ isReady }) => isReady)
      ? []
      : ['no pgsteer is ready: applications cannot connect']),
    ...pgsteer
      .filter(({ isReady }) => !isReady)
      .map(({ address, says }) => `pgsteer ${address}: ${says}`),
    ...nodes.filter(({ isReady }) => !isReady).map(({ hostname }) => `node ${hostname} is down`),
    ...services.flatMap((line) => {
      const [name = '', replicas = ''] = line.split('\t')
      const [running, wanted] = replicas.split('/').map((text) => Number.parseInt(text, 10))
      return running === wanted
        ? []
        : [`${name}: ${replicas} tasks run; see docker service ps ${name}`]
    }),
  ]
}

const LAST_BACKUP = /^pg_backup_run_last_success_timestamp_seconds/
const RESTORE_TEST = /^pg_restore_test_last_success_timestamp_seconds/

function backupProblems({ backups }: Facts, nowMs: number): string[] {
  if (backups === undefined) return ['the backup repository does not answer']
  const times = Object.entries(backups)
    .filter(([name]) => LAST_BACKUP.test(name))
    .map(([, seconds]) => seconds * 1000)
  const newestMs = Math.max(0, ...times)
  if (newestMs === 0) return ['there is no backup yet: run `backup`']
  return nowMs - newestMs > BACKUP_AGE_MS_MAX
    ? [`the newest backup is ${ageText(nowMs - newestMs)} old`]
    : []
}

function certificateProblems(facts: Facts, { certificates, nowMs }: Surroundings): string[] {
  const shown = [...facts.members, ...facts.etcd].flatMap(({ name, certificateEndsMs }) =>
    certificateEndsMs === undefined
      ? []
      : [{ name: `${name} (in use)`, endsMs: certificateEndsMs }],
  )
  return [...certificates, ...shown]
    .filter(({ endsMs }) => endsMs - nowMs < CERTIFICATE_DAYS_MIN * DAY_MS)
    .map(({ name, endsMs }) =>
      endsMs < nowMs
        ? `the certificate ${name} has expired: run \`rotate-certs\``
        : `the certificate ${name} ends in ${Math.floor((endsMs - nowMs) / DAY_MS)} days: run \`rotate-certs\``,
    )
}

/** The report for a person. */
export function statusText(found: Status, nowMs: number): string {
  const leader = found.members.find(({ role }) => role === 'leader')
  const days = (ms: number | undefined): string =>
    ms === undefined ? '' : `${Math.floor((ms - nowMs) / DAY_MS)} d`
  const blocks = [
    `${found.cluster}: ${found.isWell ? 'all is well' : `${found.problems.length} problem${found.problems.length === 1 ? '' : 's'}`}`,
    ...(found.isWell ? [] : [found.problems.map((text) => `  ! ${text}`).join('\n')]),
    table([
      ['MEMBER', 'ROLE', 'STATE', 'TIMELINE', 'LAG', 'NODE', 'CERTIFICATE'],
      ...found.members.map(({ name, role, state, timeline, lagBytes, node, certificateEndsMs }) => [
        name,
        role === 'leader' ? 'primary' : role.replace('_', ' '),
        state,
        String(timeline ?? ''),
        name === leader?.name || lagBytes === undefined ? '' : sizeText(lagBytes),
        node,
        days(certificateEndsMs),
      ]),
    ]),
    table([
      ['ETCD', 'ROLE', 'VERSION', 'NODE', 'CERTIFICATE'],
      ...found.etcd.map(({ name, isLeader, version, error, node, certificateEndsMs }) => [
        name,
        etcdRole(isLeader, error),
        version,
        node,
        days(certificateEndsMs),
      ]),
    ]),
    table([
      ['PGSTEER', 'STATE'],
      ...found.pgsteer.map(({ address, isReady, says }) => [address, isReady ? 'ready' : says]),
    ]),
    table([
      ['NODE', 'STATE', 'ROLE', 'DOCKER'],
      ...found.nodes.map(({ hostname, isReady, isManager, engine }) => [
        hostname,
        isReady ? 'ready' : 'down',
        isManager ? 'manager' : 'worker',
        engine,
      ]),
    ]),
    backupText(found, nowMs),
    certificateText(found, nowMs),
    found.alerts === undefined
      ? 'ALERTS  no monitoring'
      : `ALERTS  ${found.alerts.length === 0 ? 'none fires' : found.alerts.map(({ name }) => name).join(', ')}`,
  ]
  return blocks.join('\n\n')
}

function etcdRole(isLeader: boolean, error: string): string {
  if (error !== '') return 'down'
  return isLeader ? 'leader' : 'follower'
}

function backupText({ backups }: Status, nowMs: number): string {
  if (backups === undefined) return 'BACKUPS  unknown'
  const rows = Object.entries(backups)
    .filter(([name]) => LAST_BACKUP.test(name) || RESTORE_TEST.test(name))
    .map(([name, seconds]) => [
      RESTORE_TEST.test(name) ? 'restore test' : (name.split('.')[1] ?? 'backup'),
      seconds === 0 ? 'never' : `${ageText(nowMs - seconds * 1000)} ago`,
    ])
  return table([['BACKUP', 'LAST SUCCESS'], ...rows])
}

function certificateText({ certificates }: Status, nowMs: number): string {
  const [first] = certificates.toSorted((a, b) => a.endsMs - b.endsMs)
  return first === undefined
    ? 'CERTIFICATES  none in this folder'
    : `CERTIFICATES  ${certificates.length}, the first to end is ${first.name}, in ${Math.floor((first.endsMs - nowMs) / DAY_MS)} days`
}

function ageText(ms: number): string {
  const minutes = Math.max(0, Math.round(ms / 60_000))
  if (minutes < 120) return `${minutes} min`
  return minutes < 2880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} days`
}

function sizeText(bytes: number): string {
  const units = ['B', 'kiB', 'MiB', 'GiB', 'TiB']
  const power = bytes === 0 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10))
  return `${Math.round(bytes / 1024 ** power)} ${units[power] ?? ''}`
}
