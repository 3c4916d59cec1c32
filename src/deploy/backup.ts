/**
 * `backup` and `restore-test`: what the repository host does on schedule, done now, beside it. The work is
 * the image's `repository` command; this runs it where the repository is, and says how it ended.
 */
import { type Context, settingsOf } from './context.ts'
import { Jobs } from './job.ts'
import { likeService } from './like.ts'
import { OperatorError } from './operator.ts'

const KINDS: ReadonlySet<string> = new Set(['full', 'diff', 'incr'])
/** Of terabytes over one link. */
const DEADLINE_MS = 24 * 3600 * 1000

/** One backup into every repository: full, diff or incr. */
export async function backup(context: Context, kind = 'incr'): Promise<void> {
  if (!KINDS.has(kind))
    throw new OperatorError(`there is no backup of kind ${kind}`, 'Name full, diff or incr.')
  await besideRepository(context, { what: 'backup', args: ['backup', kind] })
  context.output.step(`the ${kind} backup is done`)
}

/** Restores the newest backup into an empty folder beside the repository, reads all of it, throws it away. */
export async function restoreTest(context: Context): Promise<void> {
  await besideRepository(context, { what: 'restore-test', args: ['restore-test'] })
  context.output.step('the restore test passed')
}

async function besideRepository(
  context: Context,
  { what, args }: { what: string; args: readonly string[] },
): Promise<void> {
  const settings = settingsOf(context)
  const { isOk, output } = await new Jobs(context).run(settings, {
    what,
    command: ['repository', ...args],
    ...(await likeService(context.docker, settings, 'pgbackrest')),
    isReadOnly: false,
    isAlone: true,
    deadlineMs: DEADLINE_MS,
    onLine: (line) => {
      context.output.step(line)
    },
  })
  if (isOk) return
  throw new OperatorError(
    `${what}: ${reasonIn(output)}`,
    'The lines above are of pgBackRest. Often: the repository is full, no primary is there, or another backup is running. It may be run again at any time.',
  )
}

/** The line that says why: an error of pgBackRest or of ours, else the last one. */
export function reasonIn(output: string): string {
  const lines = output.trim().split('\n')
  const grave = lines.findLast((line) => /\bERROR: |failed|^restore: /.test(line))
  return (grave ?? lines.at(-1) ?? 'it said nothing').trim()
}
