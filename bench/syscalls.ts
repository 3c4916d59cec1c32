/**
 * System calls of processes while something runs, as the kernel counts them for perf. Counting costs
 * them next to nothing, which strace's stops at every call do not.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'

const TOTAL = 'raw_syscalls:sys_enter'
const NAMED = [
  'read',
  'readv',
  'recvfrom',
  'recvmsg',
  'write',
  'writev',
  'sendto',
  'sendmsg',
  'epoll_wait',
  'epoll_pwait',
  'epoll_ctl',
  'futex',
]
const EVENTS = [TOTAL, ...NAMED.map((name) => `syscalls:sys_enter_${name}`)]
const ATTACH_MS = 400

/**
 * Returns calls by name, `all` for all of them; null where perf is missing or may not count.
 */
export async function countSyscalls(
  pids: readonly number[],
  run: () => Promise<unknown>,
): Promise<Record<string, number> | null> {
  const args = ['stat', '-x', ',', '-e', EVENTS.join(','), '-p', pids.join(',')]
  const child = spawn('perf', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let output = ''
  child.stderr.on('data', (bytes: Buffer) => {
    output += bytes.toString()
  })
  const ended = once(child, 'close').catch(() => undefined)
  await pause(ATTACH_MS)
  await run()
  child.kill('SIGINT')
  await ended
  return countsOf(output)
}

function countsOf(output: string): Record<string, number> | null {
  const counts: Record<string, number> = {}
  for (const line of output.split('\n')) {
    const [count, , event = ''] = line.split(',')
    if (!/^\d+$/.test(count ?? '')) continue
    counts[event === TOTAL ? 'all' : event.replace('syscalls:sys_enter_', '')] = Number(count)
  }
  return (counts['all'] ?? 0) > 0 ? counts : null
}
