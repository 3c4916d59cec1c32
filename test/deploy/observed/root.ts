/**
 * Debian 13 with what monitoring runs: Prometheus, Alertmanager, the exporters and pgBackRest beside Patroni,
 * etcd and PostgreSQL. A copy of the directory that scripts/provision.mjs makes, with packages more, and
 * host names of its own. Made once, by root.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { debian13, type Installation } from '../../support/patroni.ts'

const FROM = debian13().root ?? ''
const ROOT = `${FROM}-monitoring`

/** As deploy/prometheus/prometheus.yml names what it scrapes; here all of it is on loopback. */
const NAMES = [
  'pg1 pg2 pg3 etcd1 etcd2 etcd3 exporter1 exporter2 exporter3',
  'pgbackrest pgbackrest-exporter alertmanager node1 node2 node3',
]

const MAKE = `set -e
mkdir "$2"
tar -C "$1" --exclude=./tmp --exclude=./proc --exclude=./sys --one-file-system -cf - . | tar -C "$2" -xf -
mkdir "$2/proc" "$2/sys" "$2/tmp"
chmod 1777 "$2/tmp"
printf '#!/bin/sh\\nexit 101\\n' > "$2/usr/sbin/policy-rc.d"
chmod 755 "$2/usr/sbin/policy-rc.d"
cp /etc/resolv.conf "$2/etc/resolv.conf"
mount -t proc proc "$2/proc"
chroot "$2" apt-get update -qq
chroot "$2" apt-get install -y -qq --no-install-recommends prometheus prometheus-alertmanager \\
  prometheus-postgres-exporter prometheus-node-exporter prometheus-pgbackrest-exporter pgbackrest \\
  python3-apscheduler python3-prometheus-client`

/** Errors  Error of apt-get or tar, with what they said. */
export function monitoringRoot(): Installation {
  if (!existsSync(join(ROOT, '.complete-2'))) {
    const unfinished = `${ROOT}.new`
    for (const folder of [ROOT, unfinished]) rmSync(folder, { recursive: true, force: true })
    console.log('Making a Debian 13 directory with exporters (once, two minutes) ...')
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' }
    const command = ['--mount', 'bash', '-c', MAKE, 'make', FROM, unfinished]
    execFileSync('unshare', command, { env, stdio: ['ignore', 'ignore', 'inherit'] })
    writeFileSync(join(unfinished, '.complete-2'), '')
    renameSync(unfinished, ROOT)
  }
  const lines = ['127.0.0.1 localhost', ...NAMES.map((names) => `127.0.0.1 ${names}`)]
  writeFileSync(join(ROOT, 'etc/hosts'), `${lines.join('\n')}\n`)
  return { ...debian13(), label: 'Debian 13 with exporters', root: ROOT }
}

const ENTER =
  'mount --rbind /proc "$1/proc" && mount --rbind /sys "$1/sys" && mount --rbind /dev "$1/dev" && ' +
  'exec chroot --userspec="$2" "$1" "${@:3}"'

export interface Inside {
  /** The folder for its log, as seen from outside. */
  readonly folder: string
  readonly env?: Readonly<Record<string, string>>
}

/** A program of the root that runs until it is killed; its log is `<name>.log` in the folder. */
export function start(name: string, command: readonly string[], inside: Inside): ChildProcess {
  const log = openSync(join(inside.folder, `${name}.log`), 'a')
  return spawn('unshare', entering(command), {
    cwd: '/',
    env: environment(inside),
    stdio: ['ignore', log, log],
  })
}

/** A program of the root to its end; returns what it printed. */
export function ask(command: readonly string[], env: Inside['env'] = {}): string {
  return execFileSync('unshare', entering(command), {
    cwd: '/',
    env: environment({ folder: '', env }),
    encoding: 'utf8',
  })
}

function entering(command: readonly string[]): string[] {
  return ['--mount', 'bash', '--norc', '-c', ENTER, 'enter', ROOT, owner().join(':'), ...command]
}

/** PostgreSQL's user in the root, who runs everything. */
export function owner(): [uid: number, gid: number] {
  const passwd = readFileSync(join(ROOT, 'etc/passwd'), 'utf8')
  const line = /^postgres:[^:]*:(\d+):(\d+):/m.exec(passwd)
  return [Number(line?.[1]), Number(line?.[2])]
}

function environment({ env = {} }: Inside): Record<string, string> {
  return { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', ...env }
}
