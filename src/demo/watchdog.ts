/**
 * What makes sure that nothing outlives us, however we end: a shell of its own session that reads
 * process ids from a pipe. When the pipe closes, because we closed it or because we were killed, it
 * ends those processes, gives back their shared memory and removes the directory.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { Socket } from 'node:net'

/**
 * SIGQUIT is PostgreSQL's immediate shutdown; SIGCONT lets a frozen process take it; SIGKILL comes
 * after five seconds. A postmaster that died by SIGKILL leaves a System V segment behind, whose id is in
 * line 7 of its postmaster.pid.
 */
const SCRIPT = `
directory=$1
pids=""
# A zombie has ended; it waits for a parent that may never look.
runs() { kill -0 "$1" 2>/dev/null && ! grep -qs '^State:.Z' "/proc/$1/status"; }
while read -r action pid; do
  case $action in
    add) pids="$pids $pid" ;;
    gone) kept=""; for p in $pids; do [ "$p" = "$pid" ] || kept="$kept $p"; done; pids=$kept ;;
  esac
done
segments=""
for file in "$directory"/*/postmaster.pid; do
  [ -f "$file" ] && segments="$segments $(awk 'NR == 7 { print $2 }' "$file")"
done
for p in $pids; do kill -QUIT "$p" 2>/dev/null; kill -CONT "$p" 2>/dev/null; done
tries=0
while [ $tries -lt 100 ]; do
  left=""
  for p in $pids; do runs "$p" && left="$left $p"; done
  [ -z "$left" ] && break
  tries=$((tries + 1)); sleep 0.05
done
for p in $left; do kill -KILL "$p" 2>/dev/null; done
for s in $segments; do ipcrm -m "$s" 2>/dev/null; done
tries=0
while ! rm -rf "$directory" 2>/dev/null && [ $tries -lt 40 ]; do tries=$((tries + 1)); sleep 0.05; done
exit 0
`

export class Watchdog {
  readonly #shell: ChildProcess

  /** `directory` is removed at the end; member directories lie directly below it. */
  constructor(directory: string) {
    this.#shell = spawn('/bin/sh', ['-c', SCRIPT, 'pgsteer-watchdog', directory], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    this.#shell.unref()
    // An early end of the shell shows as EPIPE on the next line; what follows from it is only that
    // the caller's own stop() has to do the work.
    this.#shell.stdin?.on('error', () => undefined)
    if (this.#shell.stdin instanceof Socket) this.#shell.stdin.unref()
  }

  add(pid: number): void {
    this.#shell.stdin?.write(`add ${pid}\n`)
  }

  gone(pid: number): void {
    this.#shell.stdin?.write(`gone ${pid}\n`)
  }

  /** Ends what is left and removes the directory; resolves when both are done. */
  async close(): Promise<void> {
    if (this.#shell.exitCode !== null || this.#shell.signalCode !== null) return
    this.#shell.ref()
    this.#shell.stdin?.end()
    await once(this.#shell, 'exit')
  }
}
