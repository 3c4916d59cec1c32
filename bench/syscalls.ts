/**
 * System calls of some processes while something runs, counted by strace. It slows them down, so that
 * they find more to do each time than without: counts are an indication, times are none.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/** Calls per transaction: all of them, and those by name that count. */
export interface Syscalls {
  readonly all: number
  readonly byName: Readonly<Record<string, number>>
}

const STRACE = '/usr/bin/strace'
const ATTACH_MS = 300
/** Rarer ones are left out. */
const PER_TRANSACTION_MIN = 0.05
/** Columns of a line of `strace -c`: % time, seconds, usecs/call, calls, [errors,] syscall. */
const LINE = /^\s*[\d.]+\s+[\d.]+\s+\d*\s+(\d+)\s+(?:\d+\s+)?(\w+)$/gm

/** Null without strace. `run` resolves to the number of transactions. */
export async function countSyscalls(
  pids: readonly number[],
  directory: string,
  run: () => Promise<number>,
): Promise<Syscalls | null> {
  if (!existsSync(STRACE)) return null
  const output = join(directory, 'strace')
  const which = pids.flatMap((pid) => ['-p', String(pid)])
  const child = spawn(STRACE, ['-c', '-f', '-qq', '-o', output, ...which], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  await pause(ATTACH_MS)
  let transactions = 0
  try {
    transactions = await run()
  } finally {
    child.kill('SIGINT')
    await ended
  }
  const text = existsSync(output) ? readFileSync(output, 'latin1') : ''
  rmSync(output, { force: true })
  return transactions === 0 ? null : perTransaction(text, transactions)
}

function perTransaction(text: string, transactions: number): Syscalls | null {
  const byName: Record<string, number> = {}
  let all = 0
  for (const [, calls = '0', name = ''] of text.matchAll(LINE)) {
    if (name === 'total') continue
    const each = Number(calls) / transactions
    all += each
    if (each >= PER_TRANSACTION_MIN) byName[name] = Math.round(each * 100) / 100
  }
  return all === 0 ? null : { all: Math.round(all * 100) / 100, byName }
}
