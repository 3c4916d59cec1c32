/**
 * Namespaces for suites that make networks, mounts and processes of their own: whatever they leave
 * behind there ends with them, however they end.
 */
import { spawnSync } from 'node:child_process'

/** Root alone is not enough: a container may not let it make namespaces. */
export function canIsolate() {
  return process.getuid?.() === 0 && spawnSync('unshare', ['--net', 'true']).status === 0
}

const NAMESPACES = ['--net', '--mount', '--pid', '--ipc', '--fork', '--kill-child', '--mount-proc']
/** What starts them stays first process and reaps. */
const FRAME = `for at in /run/netns /dev/shm "$0"; do mkdir -p "$at"; mount -t tmpfs -o mode=1777 none "$at"; done
ip link set lo up; export PGSTEER_ISOLATED=yes; "$@" & wait $!`

/**
 * The command that runs another one in namespaces of its own; `scratch` is a directory that is empty
 * there, and gone afterwards with what is in it. Only SIGKILL ends it: unshare blocks SIGINT and
 * SIGTERM while it waits, and what is in the namespaces is killed with it.
 */
export function isolated(scratch, command) {
  return ['unshare', ...NAMESPACES, 'bash', '-c', FRAME, scratch, ...command]
}

/** The command that runs another one which is killed when its parent ends, however that is. */
export function bound(command) {
  return ['setpriv', '--pdeathsig', 'KILL', ...command]
}
