/**
 * One command at a time changes a cluster. The lock is a Docker config of a fixed name: of two that make it,
 * Docker lets one. It says whose it is; one that a dead process of this folder left is broken without asking,
 * any other by the operator's word alone.
 */
import { existsSync } from 'node:fs'
import { hostname, userInfo } from 'node:os'
import type { Context } from './context.ts'
import { pick, textOf } from './json.ts'
import { CLUSTER_LABEL } from './names.ts'
import { OperatorError } from './operator.ts'

export interface Locking {
  readonly cluster: string
  /** For those who find it taken. */
  readonly command: string
  /** The operator says that whoever has it does not run any more. */
  readonly isBroken: boolean
}

interface Held {
  readonly id: string
  readonly user: string
  readonly host: string
  readonly process: number
  readonly command: string
  /** ISO 8601. */
  readonly since: string
}

const ATTEMPTS = 3
const LABEL = 'pgsteer.lock'
/** In the folder: the id of the lock that was taken last from here. */
const FILE = 'lock'

/** Not with the configs that no service uses: they begin with the name and an underscore. */
export const lockName = (cluster: string): string => `${cluster}.lock`

/** Does `work` with the cluster's lock. Errors: OperatorError when somebody else has it. */
export async function whileLocked<T>(
  context: Context,
  locking: Locking,
  work: () => Promise<T>,
): Promise<T> {
  const id = await take(context, locking)
  // A folder that `init` has not made yet stays unmade.
  if (context.folder.read('cluster.env') !== undefined) context.folder.write(id, FILE)
  try {
    return await work()
  } finally {
    // By its id: another one may have broken it and have its own by now.
    await context.docker.tryChange(['config', 'rm', id])
  }
}

async function take(context: Context, locking: Locking): Promise<string> {
  const { docker, folder, output } = context
  const name = lockName(locking.cluster)
  let held: Held | undefined
  // The operator's word is about the one that he saw, not about who came next.
  let { isBroken } = locking
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const id = await make(context, locking)
    if (id !== undefined) return id
    const text = await docker.find(['config', 'inspect', name])
    held = text === undefined ? undefined : heldOf(JSON.parse(text))
    if (held === undefined) continue
    const isLeft =
      held.id === folder.read(FILE) && held.host === hostname() && !isAlive(held.process)
    if (!isLeft && !isBroken) break
    isBroken = false
    output.warn(`breaking the lock of ${told(held)}`)
    await docker.find(['config', 'rm', held.id])
  }
  throw new OperatorError(
    `${locking.cluster} is being changed by somebody else: ${held === undefined ? 'see `docker config ls`' : told(held)}`,
    'Wait until that command has ended. If it does not run any more (its machine or its connection died), run yours with --break-lock.',
  )
}

/** The lock's id, or undefined where there is one. */
async function make(
  { docker, clock }: Context,
  { cluster, command }: Locking,
): Promise<string | undefined> {
  const said: Readonly<Record<string, string>> = {
    [CLUSTER_LABEL]: cluster,
    [`${LABEL}.user`]: userName(),
    [`${LABEL}.host`]: hostname(),
    [`${LABEL}.process`]: String(process.pid),
    [`${LABEL}.command`]: command,
    [`${LABEL}.since`]: new Date(clock.wallMs()).toISOString(),
  }
  const labels = Object.entries(said).flatMap(([key, value]) => ['--label', `${key}=${value}`])
  try {
    const id = await docker.read(['config', 'create', ...labels, lockName(cluster), '-'], {
      input: command,
    })
    return id.trim()
  } catch (error) {
    if (error instanceof OperatorError && /already exists/i.test(error.message)) return undefined
    throw error
  }
}

function heldOf(inspected: unknown): Held | undefined {
  const [config] = Array.isArray(inspected) ? inspected : []
  const of = (key: string): string => textOf(pick(config, 'Spec', 'Labels', `${LABEL}.${key}`))
  const id = textOf(pick(config, 'ID'))
  if (id === '') return undefined
  return {
    id,
    user: of('user'),
    host: of('host'),
    process: Number(of('process')),
    command: of('command'),
    since: of('since'),
  }
}

function told({ user, host, process: pid, command, since }: Held): string {
  return `\`${command}\` of ${user}@${host} (process ${pid}), since ${since}`
}

/** Where that cannot be known, it may be. */
function isAlive(pid: number): boolean {
  return !existsSync('/proc/self') || existsSync(`/proc/${pid}`)
}

/** Who runs this; by number where the system has no name for it, as in a container. */
export function userName(read: () => string = () => userInfo().username): string {
  try {
    return read()
  } catch {
    return String(process.getuid?.() ?? 'unknown')
  }
}
