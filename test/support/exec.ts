/**
 * Runs a program to its end and returns what it said. Nothing waits for ever: it is killed at its
 * deadline, which is an error.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Program } from './debian.ts'

export interface Ran {
  readonly code: number | null
  readonly output: string
  readonly errors: string
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  readonly withinMs?: number
}

export async function execute(
  { file, args, env }: Program,
  parameters: readonly string[],
  options: RunOptions = {},
): Promise<Ran> {
  const child = spawn(file, [...args, ...parameters], {
    env: { ...process.env, ...env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: options.withinMs ?? 50_000,
    killSignal: 'SIGKILL',
  })
  let [output, errors] = ['', '']
  child.stdout.on('data', (text: Buffer) => {
    output += text.toString()
  })
  child.stderr.on('data', (text: Buffer) => {
    errors += text.toString()
  })
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input ?? '')
  await once(child, 'close')
  return { code: child.exitCode, output, errors }
}
