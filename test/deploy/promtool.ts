/** The programs of Prometheus and Alertmanager that judge their own files, run to their end. */
import { spawnSync } from 'node:child_process'
import { program } from '../support/debian.ts'

export interface Verdict {
  readonly status: number | null
  readonly output: string
}

export function judge(
  tool: 'promtool' | 'amtool',
  parameters: readonly string[],
  cwd: string,
): Verdict {
  const { file, args, env } = program(tool)
  const options = { cwd, env: { ...process.env, ...env }, encoding: 'utf8' } as const
  const { status, stdout, stderr } = spawnSync(file, [...args, ...parameters], options)
  return { status, output: `${stdout}${stderr}` }
}
