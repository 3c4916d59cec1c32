/**
 * Patroni's REST interface and etcd's JSON gateway, called by a job with the admin certificate. Answers with
 * status and body; what they mean is the caller's to say.
 */
import type { Context } from './context.ts'
import { ADMIN_SECRETS, Jobs } from './job.ts'
import { OperatorError } from './operator.ts'
import type { Settings } from './settings.ts'

export interface Call {
  readonly method: 'GET' | 'POST' | 'PATCH'
  readonly url: string
  readonly body?: unknown
  /** Changes nothing, whatever its method, so that a dry run does it as well. */
  readonly isReadOnly: boolean
}

export interface Answer {
  readonly status: number
  readonly body: string
}

const CALL_SECONDS = 120
const STATUS_LINE = /\n?status (\d{3})\n?$/

/** Errors: OperatorError when nobody answers. In a dry run a call that changes something is answered 200. */
export async function call(
  context: Context,
  settings: Settings,
  { method, url, body, isReadOnly }: Call,
): Promise<Answer> {
  const certificate = ['--cacert', 'ca.crt', '--cert', 'node.crt', '--key', 'node.key']
  const { output } = await new Jobs(context).run(settings, {
    what: 'call',
    command: [
      'curl',
      '--silent',
      '--show-error',
      '--connect-timeout',
      '5',
      '--max-time',
      String(CALL_SECONDS),
      '--request',
      method,
      '--write-out',
      '\nstatus %{http_code}\n',
      ...certificate.map((word) => (word.startsWith('--') ? word : `/run/secrets/${word}`)),
      ...(body === undefined
        ? []
        : ['--header', 'Content-Type: application/json', '--data-binary', JSON.stringify(body)]),
      url,
    ],
    networks: ['dcs', 'db'],
    secrets: ADMIN_SECRETS,
    isReadOnly,
    deadlineMs: CALL_SECONDS * 1000 + 60_000,
  })
  if (context.docker.isDryRun && !isReadOnly) return { status: 200, body: '' }
  const status = Number(STATUS_LINE.exec(output)?.[1] ?? 0)
  if (status === 0)
    throw new OperatorError(
      `${method} ${url}: ${output.replace(STATUS_LINE, '').trim()}`,
      'Look at `status`: the member that was asked has to run.',
    )
  return { status, body: output.replace(STATUS_LINE, '') }
}
