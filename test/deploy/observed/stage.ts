/**
 * Everything that deploy/prometheus/prometheus.yml scrapes, for real and on loopback: a Patroni cluster of
 * three with etcd, two instances of pgsteer under a light load, pgBackRest with a repository, the exporters,
 * Alertmanager and Prometheus itself, which runs the shipped configuration with other addresses.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { parse, stringify } from 'yaml'
import { startCluster, startSteer } from '../../failover/steer-cluster.ts'
import { type PatroniCluster, PROBE } from '../../support/patroni.ts'
import { freePort, type Steer } from '../../support/steer.ts'
import { waitFor } from '../../support/wait.ts'
import { Load } from './load.ts'
import { ask, monitoringRoot, owner, start } from './root.ts'

const DEPLOY = resolve(import.meta.dirname, '../../../deploy')
const STANZA = 'main'

/** What is scraped: a job of prometheus.yml and the address of each of its targets. */
export type Targets = ReadonlyMap<string, readonly string[]>

interface ScrapeConfig {
  readonly job_name: string
  readonly relabel_configs?: readonly object[]
}

interface PrometheusConfig {
  readonly scrape_configs: readonly ScrapeConfig[]
}

export class Stage implements AsyncDisposable {
  readonly cluster: PatroniCluster
  readonly targets: Targets
  readonly prometheusUrl: string
  readonly #undo: AsyncDisposableStack

  private constructor(cluster: PatroniCluster, targets: Targets, undo: AsyncDisposableStack) {
    this.cluster = cluster
    this.targets = targets
    this.prometheusUrl = `http://${targets.get('prometheus')?.[0] ?? ''}`
    this.#undo = undo
  }

  static async start(): Promise<Stage> {
    await using undo = new AsyncDisposableStack()
    const { root } = monitoringRoot()
    const folder = mkdtempSync(join(root ?? '', 'tmp', 'observed-'))
    undo.defer(() => rmSync(folder, { recursive: true, force: true }))
    const place = new Place(folder, root ?? '', undo)
    const cluster = await startCluster({
      installation: monitoringRoot(),
      dynamic: {
        synchronous_mode: true,
        failsafe_mode: true,
        postgresql: { use_pg_rewind: true, use_slots: true, parameters: place.archiving() },
      },
    })
    undo.defer(() => cluster.stop())
    const steers = await place.steers(cluster)
    place.backUp(cluster, (await cluster.leader()) ?? '')
    const targets = await place.exporters(cluster, steers)
    await place.judge(targets)
    return new Stage(cluster, targets, undo.move())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#undo.disposeAsync()
  }
}

/** The files and processes of one stage. */
class Place {
  readonly #folder: string
  readonly #inner: string
  readonly #undo: AsyncDisposableStack

  constructor(folder: string, root: string, undo: AsyncDisposableStack) {
    this.#folder = folder
    this.#inner = folder.slice(root.length)
    this.#undo = undo
    for (const name of ['', 'repository', 'log', 'spool', 'textfile', 'rules', 'tsdb', 'alerts']) {
      const path = join(folder, name)
      mkdirSync(path, { recursive: true })
      giveAway(path)
    }
    const lines = ['[global]', `repo1-path=${this.#inner}/repository`, 'repo1-retention-full=2']
    lines.push('repo1-cipher-type=aes-256-cbc', 'repo1-cipher-pass=of-the-stage', 'start-fast=y')
    lines.push(`log-path=${this.#inner}/log`, `lock-path=${this.#inner}/log`, `[${STANZA}]`)
    this.#write('pgbackrest.conf', `${lines.join('\n')}\n`)
  }

  archiving(): Record<string, string | number> {
    const archive = this.#pgBackRest('--pg1-path=$PWD', 'archive-push', '%p').join(' ')
    return {
      max_connections: 100,
      archive_mode: 'on',
      archive_timeout: 30,
      archive_command: archive,
      max_slot_wal_keep_size: '1GB',
      shared_preload_libraries: 'pg_stat_statements',
    }
  }

  async steers(cluster: PatroniCluster): Promise<readonly Steer[]> {
    const steers: Steer[] = []
    for (const _ of [1, 2]) {
      const steer = await startSteer(cluster, 'etcd', { pgbouncer: { default_pool_size: 8 } })
      this.#undo.defer(() => steer.kill())
      const load = new Load(steer)
      this.#undo.defer(() => load.stop())
      await load.start()
      steers.push(steer)
    }
    return steers
  }

  backUp(cluster: PatroniCluster, leader: string): void {
    const { port, dataFolder } = cluster.member(leader)
    const root = monitoringRoot().root ?? ''
    const own = [
      `--pg1-path=${dataFolder.slice(root.length)}`,
      `--pg1-port=${port}`,
      `--pg1-socket-path=${cluster.folder.slice(root.length)}`,
    ]
    ask(this.#pgBackRest(...own, 'stanza-create'))
    ask(this.#pgBackRest(...own, 'backup', '--type=full'))
    ask(this.#pgBackRest(...own, 'backup', '--type=incr'))
    const endS = Date.now() / 1000 + 90 * 86_400
    const certificate = `pg_cluster_certificate_not_after_timestamp_seconds{certificate="etcd1"} ${endS}`
    this.#write('textfile/certificates.prom', `${certificate}\n`)
  }

  async exporters(cluster: PatroniCluster, steers: readonly Steer[]): Promise<Targets> {
    const { user, password } = PROBE
    const postgres = await Promise.all(
      cluster.members.map((member) =>
        this.#exporter('prometheus-postgres-exporter', postgresFlags(), {
          DATA_SOURCE_URI: `${member.host}:${member.port}/postgres?sslmode=disable`,
          DATA_SOURCE_USER: user,
          DATA_SOURCE_PASS: password,
        }),
      ),
    )
    const backups = await this.#exporter('prometheus-pgbackrest-exporter', [
      '--collect.interval=15',
      `--backrest.config=${this.#inner}/pgbackrest.conf`,
    ])
    const repository = await this.#repository()
    const hosts = await this.#exporter('prometheus-node-exporter', [
      `--collector.textfile.directory=${this.#inner}/textfile`,
    ])
    return new Map([
      ['pgsteer', steers.map((steer) => `127.0.0.1:${steer.httpPort}`)],
      ['patroni', cluster.members.map((one) => `${one.name}:${new URL(one.restUrl).port}`)],
      ['etcd', cluster.etcds.map((one) => `${one.name}:${new URL(one.url).port}`)],
      ['postgres', postgres.map((port, index) => `exporter${index + 1}:${port}`)],
      ['backups', [`pgbackrest-exporter:${backups}`]],
      ['repository', [`pgbackrest:${repository}`]],
      ['hosts', [`node1:${hosts}`]],
      ['prometheus', [`localhost:${await freePort()}`]],
      ['alertmanager', [`alertmanager:${await freePort()}`]],
    ])
  }

  /** The metrics of the repository host, by its own code, with a state as after some runs. */
  async #repository(): Promise<number> {
    const [port, nowS] = [await freePort(), Date.now() / 1000]
    cpSync(join(DEPLOY, 'images/node/backup'), join(this.#folder, 'backup'), { recursive: true })
    const ran = { last_success: nowS - 3600, failures: 0 }
    this.#write('runs.json', JSON.stringify({ full: ran, incr: ran }))
    const tried = { last_success: nowS - 7200, last_run: nowS - 7200, duration: 42, failures: 0 }
    this.#write('restore-test.json', JSON.stringify(tried))
    this.#spawn('python3', ['-c', REPOSITORY, `${port}`], {
      PYTHONPATH: this.#inner,
      PYTHONDONTWRITEBYTECODE: '1',
      CLUSTER: STANZA,
      BACKUP_STATE_FOLDER: this.#inner,
    })
    await this.#untilAnswers(port, '/metrics')
    return port
  }

  /** Alertmanager and Prometheus, as they are shipped. */
  async judge(targets: Targets): Promise<void> {
    const alertmanager = targets.get('alertmanager')?.[0] ?? ''
    const [prometheus = ''] = targets.get('prometheus') ?? []
    const receivers = readFileSync(join(DEPLOY, 'alertmanager/receivers.example.yml'), 'utf8')
    const shipped = readFileSync(join(DEPLOY, 'alertmanager/alertmanager.yml'), 'utf8')
    this.#write('alertmanager.yml', shipped.replace(/^\{\{ secret .*$/m, receivers))
    this.#write('prometheus.yml', stringify(this.#configuration(targets)))
    for (const file of readdirSync(join(DEPLOY, 'prometheus')))
      if (file.endsWith('.rules.yml'))
        copyFileSync(join(DEPLOY, 'prometheus', file), join(this.#folder, 'rules', file))
    this.#spawn('prometheus-alertmanager', [
      `--config.file=${this.#inner}/alertmanager.yml`,
      `--storage.path=${this.#inner}/alerts`,
      '--cluster.listen-address=',
      `--web.listen-address=127.0.0.1:${portOf(alertmanager)}`,
    ])
    this.#spawn(
      'prometheus',
      [
        `--config.file=${this.#inner}/prometheus.yml`,
        `--storage.tsdb.path=${this.#inner}/tsdb`,
        `--web.listen-address=127.0.0.1:${portOf(prometheus)}`,
        '--enable-feature=expand-external-labels',
      ],
      { CLUSTER: STANZA },
    )
    await this.#untilAnswers(Number(portOf(prometheus)), '/-/ready')
  }

  /** The shipped configuration with the addresses of this stage, without TLS. */
  #configuration(targets: Targets): object {
    const text = readFileSync(join(DEPLOY, 'prometheus/prometheus.yml'), 'utf8')
    const config = parse(text) as PrometheusConfig
    const scrape_configs = config.scrape_configs
      .filter(({ job_name }) => targets.has(job_name))
      .map((job) => ({
        job_name: job.job_name,
        scrape_interval: '5s',
        static_configs: [{ targets: targets.get(job.job_name) }],
        relabel_configs: job.job_name === 'hosts' ? HOST_NAMES : named(job),
      }))
    const alertmanagers = [{ static_configs: [{ targets: targets.get('alertmanager') }] }]
    const rule_files = [`${this.#inner}/rules/*.rules.yml`]
    return { ...config, rule_files, alerting: { alertmanagers }, scrape_configs }
  }

  async #exporter(
    program: string,
    flags: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<number> {
    const port = await freePort()
    this.#spawn(program, [`--web.listen-address=127.0.0.1:${port}`, ...flags], env)
    await this.#untilAnswers(port, '/metrics')
    return port
  }

  async #untilAnswers(port: number, path: string): Promise<void> {
    const url = `http://127.0.0.1:${port}${path}`
    await waitFor(url, async () => (await fetch(url, { signal: AbortSignal.timeout(5000) })).ok, {
      everyMs: 100,
    })
  }

  #spawn(
    program: string,
    flags: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): void {
    const child = start(program, [`/usr/bin/${program}`, ...flags], { folder: this.#folder, env })
    this.#undo.defer(() => ended(child))
  }

  #pgBackRest(...parameters: readonly string[]): string[] {
    const own = [`--config=${this.#inner}/pgbackrest.conf`, `--stanza=${STANZA}`]
    return ['/usr/bin/pgbackrest', ...own, ...parameters]
  }

  #write(name: string, text: string): void {
    const file = join(this.#folder, name)
    writeFileSync(file, text)
    giveAway(file)
  }
}

/** As deploy/images/node/repository serves them. */
const REPOSITORY = `
import sys, threading
from prometheus_client import CollectorRegistry, start_http_server
from backup import metrics
registry = CollectorRegistry()
registry.register(metrics.Collector())
start_http_server(int(sys.argv[1]), addr='127.0.0.1', registry=registry)
threading.Event().wait()
`

const HOST_NAMES = [
  { source_labels: ['__address__'], regex: '([^:]+):\\d+', target_label: 'instance' },
]

/** Here members are named pg1 and so on. */
function named(job: ScrapeConfig): object[] {
  const text = JSON.stringify(job.relabel_configs ?? [])
  return JSON.parse(text.replaceAll('patroni$1', 'pg$1')) as object[]
}

/** The flags of deploy/monitoring.yml. */
function postgresFlags(): string[] {
  const stack = parse(readFileSync(join(DEPLOY, 'monitoring.yml'), 'utf8'), { merge: true }) as {
    services: Record<string, { command?: string[] }>
  }
  return stack.services['exporter1']?.command ?? []
}

function giveAway(path: string): void {
  const [uid, gid] = owner()
  chownSync(path, uid, gid)
}

function portOf(target: string): string {
  return target.replace(/^.*:/, '')
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}
