/**
 * What Docker runs of a stack, asked of Docker and of no file: the meaning that each service was deployed
 * with, its tasks, and how its last update went. And waiting until a change has really happened.
 */
import type { Context } from './context.ts'
import { pick, textOf } from './json.ts'
import { MEANING_LABEL, type Stack, serviceName, stackName } from './names.ts'
import { OperatorError } from './operator.ts'
import type { Settings } from './settings.ts'
import { untilNothingLacks } from './until.ts'

/** A service of a stack. */
export interface Service {
  /** Without the stack. */
  readonly name: string
  /** In Docker. */
  readonly fullName: string
  /** Empty where it was not deployed by this tool. */
  readonly digest: string
}

/** What a service runs: how its tasks are made, and which of them shall run. */
interface Running {
  readonly template: string
  readonly tasks: ReadonlySet<string>
  /** Of the last update, as Docker tells it. */
  readonly update: unknown
}

/** By service. */
export type Before = ReadonlyMap<Service, Running>

/** The services of a stack that exist. */
export async function servicesOf(
  { docker }: Pick<Context, 'docker'>,
  { cluster }: Settings,
  stack: Stack,
): Promise<Service[]> {
  const name = stackName(cluster, stack)
  const label = `label=com.docker.stack.namespace=${name}`
  const names = await docker.lines(['service', 'ls', '--filter', label, '--format', '{{.Name}}'])
  if (names.length === 0) return []
  const inspected = await docker.inspect(['service', 'inspect', ...names])
  return inspected.map((service) => {
    const fullName = textOf(pick(service, 'Spec', 'Name'))
    return {
      name: fullName.slice(serviceName(name, '').length),
      fullName,
      digest: textOf(pick(service, 'Spec', 'Labels', MEANING_LABEL)),
    }
  })
}

/** Taken before a change, for waiting after it. */
export async function runningBefore(
  { docker }: Pick<Context, 'docker'>,
  services: readonly Service[],
): Promise<Before> {
  const before = new Map<Service, Running>()
  for (const service of services) before.set(service, await runningOf({ docker }, service))
  return before
}

async function runningOf(
  { docker }: Pick<Context, 'docker'>,
  { fullName }: Service,
): Promise<Running> {
  const [found] = await docker.inspect(['service', 'inspect', fullName])
  const filter = ['--filter', 'desired-state=running']
  const ids = await docker.lines(['service', 'ps', '-q', '--no-trunc', ...filter, fullName])
  return {
    template: JSON.stringify(pick(found, 'Spec', 'TaskTemplate')),
    tasks: new Set(ids),
    update: pick(found, 'UpdateStatus'),
  }
}

/** Docker begins an update some time after it took it: until then all looks well, with the old task. */
export async function waitForTasks(
  context: Context,
  before: Before,
  seconds: number,
): Promise<void> {
  await eachDone(context, { before, seconds }, async (service, last) => {
    const { template, tasks } = await runningOf(context, service)
    if (template === last.template) return undefined
    const made = [...tasks].filter((id) => !last.tasks.has(id))
    const states = await context.docker.tasks(made)
    return states.some((task) => pick(task, 'Status', 'State') === 'running')
      ? undefined
      : new OperatorError(
          `${service.name} did not start anew within ${seconds} s`,
          `See \`docker service ps --no-trunc ${service.fullName}\`, mend what it names, and run the command again.`,
        )
  })
}

/** A service of many tasks goes one by one, as its update_config says, and some go back by themselves. */
export async function waitForUpdates(
  context: Context,
  before: Before,
  seconds: number,
): Promise<void> {
  if (before.size > 0)
    context.output.step(`changing ${[...before.keys()].map(({ name }) => name).join(', ')}`)
  await eachDone(context, { before, seconds }, async (service, last) => {
    // Without tasks there is nothing to update, and Docker says nothing of it.
    if (last.tasks.size === 0) return undefined
    const { template, update } = await runningOf(context, service)
    const state = textOf(pick(update, 'State'))
    // Docker takes the old status away before it writes the new one.
    const startedAt = pick(update, 'StartedAt')
    const isBegun = startedAt !== undefined && startedAt !== pick(last.update, 'StartedAt')
    if (template === last.template || (isBegun && state === 'completed')) return undefined
    if (isBegun && state !== 'updating')
      throw new OperatorError(
        `${service.name} was not changed: ${textOf(pick(update, 'Message'))} (${state})`,
        `See \`docker service logs ${service.fullName}\`; correct the image or the settings, and run the command again.`,
      )
    return new OperatorError(
      `${service.name} is not changed everywhere after ${seconds} s`,
      `See \`docker service ps --no-trunc ${service.fullName}\`. It goes on by itself; run the command again, or wait longer with --wait=SECONDS.`,
    )
  })
}

/** Asks for each service until `lacking` answers undefined; at the deadline its answer is the error. */
async function eachDone(
  context: Context,
  { before, seconds }: { before: Before; seconds: number },
  lacking: (service: Service, last: Running) => Promise<OperatorError | undefined>,
): Promise<void> {
  if (seconds === 0) return
  const untilMs = context.clock.nowMs() + seconds * 1000
  for (const [service, last] of before)
    await untilNothingLacks(context, untilMs - context.clock.nowMs(), () => lacking(service, last))
}
