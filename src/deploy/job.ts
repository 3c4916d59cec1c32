/**
 * Work inside of the cluster's own networks, where the operator's machine does not reach: a Swarm job from
 * the node image, waited for, its output read, and removed. Jobs that a broken connection left behind are
 * removed by the next one of the same kind when their time is over: until then they may be somebody else's.
 */
import { randomBytes } from 'node:crypto'
import { type Clock, wait } from '../base/clock.ts'
import { type Docker } from './docker.ts'
import { arrayOf, pick, textOf } from './json.ts'
import { CLUSTER_LABEL, type Network, networkName, secretName } from './names.ts'
import { OperatorError, type Output } from './operator.ts'
import type { Settings } from './settings.ts'

export interface Job {
  /** A word for the service's name and for messages. */
  readonly what: string
  readonly command: readonly string[]
  /** NODE_IMAGE if it is not given. */
  readonly image?: string
  /** Of the cluster's networks. */
  readonly networks?: readonly Network[]
  /** As `docker service create` has them, for the host's own network and the like. */
  readonly options?: readonly string[]
  /** Secret without cluster and epoch, and the file's name below /run/secrets, or an absolute path. */
  readonly secrets?: readonly JobSecret[]
  readonly env?: Readonly<Record<string, string>>
  /** Once on every node instead of once. */
  readonly isGlobal?: boolean
  /** Never beside another one of its kind: it is refused while one runs. */
  readonly isAlone?: boolean
  /** Changes nothing in the cluster, so that a dry run does it as well. */
  readonly isReadOnly: boolean
  readonly deadlineMs: number
  /** Called for every line of output, as it comes. */
  readonly onLine?: (line: string) => void
}

export interface JobSecret {
  readonly secret: string
  readonly target: string
  readonly epoch: 'certificates' | 'passwords'
}

export interface JobResult {
  readonly isOk: boolean
  /** What the tasks wrote, standard error included. */
  readonly output: string
}

/** What a job needs to show the admin certificate. */
export const ADMIN_SECRETS: readonly JobSecret[] = [
  { secret: 'ca_crt', target: 'ca.crt', epoch: 'certificates' },
  { secret: 'admin_crt', target: 'node.crt', epoch: 'certificates' },
  { secret: 'admin_key', target: 'node.key', epoch: 'certificates' },
]

const POLL_MS = 500
/** Milliseconds since 1970, after which nobody waits for the job any more. */
const UNTIL_LABEL = 'pgsteer.until'
/** So far apart may the clocks of two operators be. */
const CLOCKS_MS = 600_000
/** The postgres user of the node image. */
const USER = '999'
const OVER: ReadonlySet<string> = new Set([
  'complete',
  'failed',
  'rejected',
  'orphaned',
  'shutdown',
  'remove',
])

export class Jobs {
  readonly #docker: Docker
  readonly #clock: Clock
  readonly #output: Output

  constructor({ docker, clock, output }: { docker: Docker; clock: Clock; output: Output }) {
    this.#docker = docker
    this.#clock = clock
    this.#output = output
  }

  /**
   * Runs the job and answers when all of its tasks are over; in a dry run one that changes something is
   * printed and said to be well. Errors: OperatorError when no task can start, or at the deadline.
   */
  async run(settings: Settings, job: Job): Promise<JobResult> {
    const prefix = `${settings.cluster}_job-${job.what}-`
    const name = `${prefix}${randomBytes(3).toString('hex')}`
    const untilMs = this.#clock.wallMs() + job.deadlineMs + CLOCKS_MS
    const args = createArgs(settings, job, { name, untilMs })
    if (this.#docker.isDryRun && !job.isReadOnly) {
      await this.#docker.change(args)
      return { isOk: true, output: '' }
    }
    await this.#removeOld(prefix, job)
    await this.#docker.read(args)
    try {
      return await this.#finish(name, job)
    } finally {
      await this.#docker.find(['service', 'rm', name])
    }
  }

  async #removeOld(prefix: string, job: Job): Promise<void> {
    const names = await this.#docker.lines([
      'service',
      'ls',
      '--filter',
      `name=${prefix}`,
      '--format',
      '{{.Name}}',
    ])
    for (const name of names) {
      const text = await this.#docker.find(['service', 'inspect', name])
      if (text === undefined) continue
      const [found] = arrayOf(JSON.parse(text))
      const untilMs = Number(pick(found, 'Spec', 'Labels', UNTIL_LABEL) ?? 0)
      if (untilMs > this.#clock.wallMs()) {
        if (job.isAlone === true) await this.#refuseBeside(name)
        continue
      }
      this.#output.step(`removing ${name}, which an earlier command left behind`)
      await this.#docker.find(['service', 'rm', name])
    }
  }

  async #refuseBeside(name: string): Promise<void> {
    const tasks = await this.#tasks(name)
    if (tasks.length > 0 && tasks.every(({ state }) => OVER.has(state))) return
    throw new OperatorError(
      `${name} runs, which somebody else began or an earlier command left behind`,
      `Wait until it is done (docker service logs --follow ${name}); or, if it may be broken off, end it: docker service rm ${name}`,
    )
  }

  async #finish(name: string, job: Job): Promise<JobResult> {
    const until = this.#clock.nowMs() + job.deadlineMs
    const seen = { count: 0 }
    for (;;) {
      const tasks = await this.#tasks(name)
      if (job.onLine !== undefined) await this.#tell(name, seen, job.onLine)
      if (tasks.length > 0 && tasks.every(({ state }) => OVER.has(state))) {
        if (job.onLine !== undefined) await this.#tell(name, seen, job.onLine)
        return await this.#result(name, job, tasks)
      }
      if (this.#clock.nowMs() > until) throw tooLate(job, tasks, await this.#logs(name))
      await wait(this.#clock, POLL_MS)
    }
  }

  async #result(name: string, job: Job, tasks: readonly Task[]): Promise<JobResult> {
    const output = await this.#logs(name)
    const unstarted = tasks.find(
      ({ state, exitCode }) => state !== 'complete' && exitCode === undefined,
    )
    if (unstarted !== undefined && output.trim() === '')
      throw new OperatorError(
        `the job ${job.what} did not start: ${unstarted.error}`,
        'If it is about the image: every node has to have NODE_IMAGE, or reach its registry (docker pull). If no node is suitable: `docker node ls`.',
      )
    return { isOk: tasks.every(({ state }) => state === 'complete'), output }
  }

  async #tell(
    name: string,
    seen: { count: number },
    onLine: (line: string) => void,
  ): Promise<void> {
    const lines = (await this.#logs(name)).split('\n')
    // What comes after the last end of line is not whole yet.
    for (const line of lines.slice(seen.count, -1)) onLine(line)
    seen.count = Math.max(seen.count, lines.length - 1)
  }

  async #logs(name: string): Promise<string> {
    return await this.#docker.logs(name)
  }

  async #tasks(name: string): Promise<Task[]> {
    const ids = await this.#docker.lines(['service', 'ps', '-q', '--no-trunc', name])
    return (await this.#docker.tasks(ids)).map(taskOf)
  }
}

interface Task {
  readonly state: string
  readonly error: string
  /** Undefined for a task that never ran. */
  readonly exitCode: number | undefined
}

function taskOf(value: unknown): Task {
  const exitCode = pick(value, 'Status', 'ContainerStatus', 'ExitCode')
  return {
    state: textOf(pick(value, 'Status', 'State')),
    error: textOf(pick(value, 'Status', 'Err')) || textOf(pick(value, 'Status', 'Message')),
    exitCode: typeof exitCode === 'number' ? exitCode : undefined,
  }
}

function tooLate(job: Job, tasks: readonly Task[], output: string): OperatorError {
  const states = tasks
    .map(({ state, error }) => `${state}${error === '' ? '' : `: ${error}`}`)
    .join('; ')
  return new OperatorError(
    `the job ${job.what} was not done after ${Math.round(job.deadlineMs / 1000)} s (${states === '' ? 'no task' : states})`,
    output.trim() === ''
      ? "Nothing was written. See `docker service ps` of the cluster's services and `docker node ls`."
      : `The last it said: ${output.trim().split('\n').slice(-3).join(' / ')}`,
  )
}

/** The arguments of `docker service create` for the job. */
export function createArgs(
  settings: Settings,
  job: Job,
  { name, untilMs }: { name: string; untilMs: number },
): string[] {
  const { cluster } = settings
  const epochs = { certificates: settings.certEpoch, passwords: settings.authEpoch }
  return [
    'service',
    'create',
    '--detach',
    '--quiet',
    '--name',
    name,
    '--label',
    `${CLUSTER_LABEL}=${cluster}`,
    '--label',
    `${UNTIL_LABEL}=${untilMs}`,
    '--mode',
    job.isGlobal === true ? 'global-job' : 'replicated-job',
    '--restart-condition',
    'none',
    '--log-driver',
    'json-file',
    ...(settings.isLocalImages ? ['--no-resolve-image'] : ['--with-registry-auth']),
    ...(job.networks ?? []).flatMap((network) => ['--network', networkName(cluster, network)]),
    ...(job.secrets ?? []).flatMap(({ secret, target, epoch }) => [
      '--secret',
      `source=${secretName(cluster, secret, epochs[epoch])},target=${target},uid=${USER},gid=${USER},mode=0400`,
    ]),
    ...Object.entries(job.env ?? {}).flatMap(([key, value]) => ['--env', `${key}=${value}`]),
    ...(job.options ?? []),
    job.image ?? settings.nodeImage,
    ...job.command,
  ]
}
