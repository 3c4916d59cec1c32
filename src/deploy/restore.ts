/**
 * `restore`: the whole cluster as of now, of a moment, or of a backup. First it is proved on the running
 * cluster that it can be done; then the members stop, one is restored beside its old data (the image's
 * `restore` command), leads, and the others are copied from it. Every step may be run again.
 */
import { reasonIn } from './backup.ts'
import { type Context, settingsOf } from './context.ts'
import { leaderOf, readFacts } from './facts.ts'
import { Jobs } from './job.ts'
import { pick, textOf } from './json.ts'
import { likeService } from './like.ts'
import { memberNames, serviceName } from './names.ts'
import { readNodes } from './nodes.ts'
import { OperatorError } from './operator.ts'
import type { Settings } from './settings.ts'
import { untilNothingLacks } from './until.ts'

export interface RestoreOptions {
  /** A moment with a time zone, ISO 8601. */
  readonly to: string | undefined
  /** The label of a backup. Without either: all that is archived. */
  readonly set: string | undefined
  /** A time line that was left, by number. */
  readonly timeline: string | undefined
  /** Which member is restored; the primary without it, since it has everything. */
  readonly member: string | undefined
  /** Also when the member was restored to the same already. */
  readonly isAgain: boolean
  /** The old data is removed instead of being renamed. */
  readonly isOldDiscarded: boolean
  readonly isConfirmed: boolean
}

const CHECK_MS = 600_000
const RESTORE_MS = 24 * 3600 * 1000
const STOP_MS = 300_000
const LEAD_MS = 300_000

export async function restore(context: Context, options: RestoreOptions): Promise<void> {
  const settings = settingsOf(context)
  const target = targetOf(options)
  const isStopped = await areStopped(context, settings)
  const member = options.member ?? (await memberFor(context, settings, isStopped))
  if (!memberNames(settings).includes(member))
    throw new OperatorError(
      `there is no member ${member}`,
      `There are ${memberNames(settings).join(', ')}.`,
    )
  const aside = discarding(options.isOldDiscarded)
  const work: Work = { context, settings, member, target, aside }
  if (!isStopped) {
    context.output.step(`looking whether ${member} can be restored`)
    context.output.print(
      (await onMember(work, member, ['check', ...target], CHECK_MS)).trim().split('\n').at(-1) ??
        '',
    )
  }
  if (!options.isConfirmed) {
    context.output.step('Nothing was changed. With --yes all members stop and this is restored.')
    return
  }
  const lost = await lostMembers(context, settings)
  if (lost.includes(member))
    throw new OperatorError(
      `the node of ${member} is down`,
      'Name another member with --member: the one whose volume has the most room, or that was the primary before.',
    )
  await stopMembers(work, lost)
  context.output.step(`restoring on ${member}`)
  await onMember(work, member, ['run', ...target], RESTORE_MS)
  await startLeader(work)
  await copyOthers(work, lost)
  context.output.step(
    'restored. Look at `status`, then take a full backup (`backup --type=full`); the old data is beside the new until `restore --forget-old --yes`.',
  )
}

/** Those whose node Docker does not reach: nothing can be stopped or begun there, and nothing of it runs here. */
async function lostMembers({ docker, output }: Context, settings: Settings): Promise<string[]> {
  const nodes = await readNodes(docker)
  const isLost = (name: string): boolean =>
    !nodes.some(({ id, hostname, isReady }) => isReady && (id === name || hostname === name))
  const lost = settings.members
    .filter(({ node }) => isLost(node))
    .map(({ slot }) => `patroni${slot}`)
  for (const name of lost)
    output.warn(`the node of ${name} is down: when it returns, Patroni rewinds or copies ${name}`)
  return lost
}

/**
 * From now on the restored member takes writes: what fails here must not lead to a second restore. One whose
 * data could not be set aside starts on it all the same, and Patroni rewinds it or says why not.
 */
async function copyOthers(work: Work, lost: readonly string[]): Promise<void> {
  const { context, settings, member, aside } = work
  for (const name of memberNames(settings).filter((one) => one !== member)) {
    if (!lost.includes(name)) {
      context.output.step(`${name} will be copied anew`)
      try {
        await onMember(work, name, ['set-aside', ...aside], CHECK_MS)
      } catch (error) {
        if (!(error instanceof OperatorError)) throw error
        context.output.warn(
          `${error.message}. ${member} is restored and leads: do not restore again. ${name} starts on its old data, which Patroni takes back to the restored state`,
        )
      }
    }
    await scale(work, name, 1)
  }
}

/** Removes the data that restores have set aside, on every member's node; only of a cluster that is well. */
export async function forgetOld(context: Context, isConfirmed: boolean): Promise<void> {
  const settings = settingsOf(context)
  const facts = await readFacts(context, settings)
  const ill = memberNames(settings).filter(
    (name) =>
      !facts.members.some((one) => one.name === name && /^(running|streaming)$/.test(one.state)),
  )
  if (leaderOf(facts) === undefined || ill.length > 0)
    throw new OperatorError(
      `the cluster is not well${ill.length > 0 ? `: ${ill.join(', ')}` : ': there is no primary'}`,
      'The old data may still be needed. See `status`.',
    )
  if (!isConfirmed) {
    context.output.step(
      'Nothing was changed. With --yes the data that restores have set aside is removed on every node.',
    )
    return
  }
  for (const name of memberNames(settings))
    await onMember(
      { context, settings, member: name, target: [], aside: [] },
      name,
      ['forget'],
      CHECK_MS,
    )
}

interface Work {
  readonly context: Context
  readonly settings: Settings
  /** The one that is restored. */
  readonly member: string
  readonly target: readonly string[]
  /** Of `set-aside`. */
  readonly aside: readonly string[]
}

function targetOf({ to, set, timeline, isAgain, isOldDiscarded }: RestoreOptions): string[] {
  if (to !== undefined && set !== undefined)
    throw new OperatorError(
      '--to and --set exclude each other',
      'A moment chooses its backup by itself.',
    )
  return [
    ...(to === undefined ? [] : ['--time', to]),
    ...(set === undefined ? [] : ['--set', set]),
    ...(timeline === undefined ? [] : ['--timeline', timeline]),
    ...(isAgain ? ['--again'] : []),
    ...discarding(isOldDiscarded),
  ]
}

function discarding(isOldDiscarded: boolean): string[] {
  return isOldDiscarded ? ['--discard-old'] : []
}

/** What a restore that was interrupted finds: no member is meant to run. */
async function areStopped({ docker }: Context, settings: Settings): Promise<boolean> {
  const names = memberNames(settings).map((name) => serviceName(settings.cluster, name))
  const services = await docker.inspect(['service', 'inspect', ...names])
  return services.every((one) => pick(one, 'Spec', 'Mode', 'Replicated', 'Replicas') === 0)
}

async function memberFor(
  context: Context,
  settings: Settings,
  isStopped: boolean,
): Promise<string> {
  const choose =
    'Name the member with --member: the one whose volume has the most room, or that was the primary.'
  if (isStopped)
    throw new OperatorError(
      'all members are stopped, so it is not known which one was the primary',
      choose,
    )
  const leader = leaderOf(await readFacts(context, settings))
  if (leader !== undefined) return leader.name
  throw new OperatorError('there is no primary', choose)
}

/** `restore ARGS` on that member's node and volume; answers what it said. */
async function onMember(
  { context, settings }: Work,
  name: string,
  args: readonly string[],
  deadlineMs: number,
): Promise<string> {
  const [what = ''] = args
  const { isOk, output } = await new Jobs(context).run(settings, {
    what: `restore-${what}`,
    command: ['restore', ...args],
    ...(await likeService(context.docker, settings, name)),
    isReadOnly: what === 'check',
    isAlone: what !== 'check',
    deadlineMs,
    onLine: (line) => {
      context.output.step(`${name}: ${line}`)
    },
  })
  if (isOk) return output
  throw new OperatorError(
    `restore on ${name}: ${reasonIn(output)}`,
    what === 'check'
      ? 'Nothing was stopped or changed. See `status` for the backups that there are.'
      : `The old data is still there. Run the same command again with --member ${name}, or start the cluster as it was with \`up\`.`,
  )
}

/** Replicas first, so that the primary's last transactions are archived and nobody is promoted meanwhile. */
async function stopMembers(work: Work, lost: readonly string[]): Promise<void> {
  const { context, settings, member } = work
  const others = memberNames(settings).filter((name) => name !== member)
  for (const name of [...others, member]) {
    context.output.step(`stopping ${name}`)
    await scale(work, name, 0)
    // Docker calls the tasks of a lost node running for a day.
    if (!lost.includes(name)) await untilGone(work, name)
  }
}

async function scale({ context, settings }: Work, name: string, replicas: number): Promise<void> {
  const service = serviceName(settings.cluster, name)
  await context.docker.change(['service', 'scale', '--detach', `${service}=${replicas}`])
}

async function untilGone({ context, settings }: Work, name: string): Promise<void> {
  const { docker } = context
  const service = serviceName(settings.cluster, name)
  await untilNothingLacks(context, STOP_MS, async () => {
    const ids = await docker.lines(['service', 'ps', '-q', '--no-trunc', service])
    const tasks = await docker.tasks(ids)
    const states = tasks.map((task) => textOf(pick(task, 'Status', 'State')))
    if (!states.some((state) => ['running', 'starting', 'preparing'].includes(state)))
      return undefined
    return new OperatorError(
      `${name} did not stop within ${STOP_MS / 1000} s`,
      'Its data is locked while it runs. See `docker service logs`, then run the same command again.',
    )
  })
}

async function startLeader(work: Work): Promise<void> {
  const { context, settings, member } = work
  context.output.step(`starting ${member}`)
  await scale(work, member, 1)
  await untilNothingLacks(context, LEAD_MS, async () =>
    leaderOf(await readFacts(context, settings))?.name === member
      ? undefined
      : new OperatorError(
          `${member} does not lead ${LEAD_MS / 1000} s after its start`,
          `See \`docker service logs ${serviceName(settings.cluster, member)}\`. Its data is restored; the other members are stopped until it leads.`,
        ),
  )
}
