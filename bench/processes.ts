/**
 * CPU time and memory of a process and everything below it, as the kernel counts them.
 *
 * The kernel scales utime and stime so that their sum is the scheduler's exact run time; only the
 * split between the two is a guess. Source: kernel/sched/cputime.c, cputime_adjust.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/** Fields of /proc/PID/stat behind the name, counted from 0: state is 0. */
const PARENT = 1
const USER_TICKS = 11
const SYSTEM_TICKS = 12

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

/** The process and its descendants. */
export function treeOf(root: number): number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const parent = Number(statOf(Number(name))?.[PARENT] ?? -1)
    const known = children.get(parent)
    if (known === undefined) children.set(parent, [Number(name)])
    else known.push(Number(name))
  }
  const tree = [root]
  for (let index = 0; index < tree.length; index += 1)
    tree.push(...(children.get(tree[index] ?? 0) ?? []))
  return tree
}

/** User and system time of these processes and all their threads, in microseconds, by name. */
export function cpuUsByName(pids: readonly number[]): Record<string, number> {
  const found: Record<string, number> = {}
  for (const pid of pids) {
    const stat = statOf(pid)
    const ticks = Number(stat?.[USER_TICKS] ?? 0) + Number(stat?.[SYSTEM_TICKS] ?? 0)
    const name = nameOf(pid)
    found[name] = (found[name] ?? 0) + (ticks * 1e6) / TICKS_PER_SECOND
  }
  return found
}

/** Of a program of ours the file that it runs, without its extension; of others the program's. */
function nameOf(pid: number): string {
  const command = readIfThere(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')
  const ours = /src\/(\w+)\.ts\b/.exec(command)?.[1]
  if (ours === undefined) return readIfThere(`/proc/${pid}/comm`).trim()
  return ours === 'cli' ? 'supervisor' : ours
}

/** Resident memory, in bytes. */
export function residentBytes(pids: readonly number[]): number {
  let kilobytes = 0
  for (const pid of pids)
    kilobytes += Number(/^VmRSS:\s+(\d+)/m.exec(readIfThere(`/proc/${pid}/status`))?.[1] ?? 0)
  return kilobytes * 1024
}

/** How many files this process may have open. */
export function openFilesMax(): number {
  const limit = /^Max open files\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
  return limit === undefined || limit === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(limit)
}

function statOf(pid: number): readonly string[] | undefined {
  const stat = readIfThere(`/proc/${pid}/stat`)
  return stat === '' ? undefined : stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
