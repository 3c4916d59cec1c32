/**
 * Patroni's REST API as the source, for clusters whose store cannot be reached: `/cluster` says who
 * leads as Patroni reads it in its store, `/config`, `/history` and `/patroni` the rest. Members
 * are discovered from any address that answers. An HTTP status never names a primary here.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { reasonOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { ClusterConfig } from '../config/config.ts'
import {
  isObject,
  type Json,
  parseDynamic,
  parseHistory,
  parseInitialize,
  restUrlOf,
  tagsOf,
  textOf,
} from './keys.ts'
import { Rest } from './rest.ts'
import type {
  ClusterView,
  DynamicConfig,
  Leader,
  Source,
  SourceEvents,
  ViewMember,
} from './source.ts'
import type { HistoryLine } from './topology.ts'

const BUSY_MS = 100
/** `/config` and `/history` change rarely. */
const SETTINGS_MS = 5000
const URLS_MAX = 64
/** Roles of `/cluster` that mean: holds the leader key (cluster_as_json in patroni/utils.py). */
const LEADING = new Set(['leader', 'standby_leader'])

interface Settings {
  readonly readMs: number
  readonly dynamic: DynamicConfig
  readonly history: readonly HistoryLine[]
}

export class PatroniSource implements Source {
  readonly kind = 'patroni'
  readonly blindMs: number
  readonly #cluster: ClusterConfig
  readonly #events: SourceEvents
  readonly #clock: Clock
  readonly #log: Log
  readonly #rest: Rest
  /** The configured addresses first, then those of members found. */
  #urls: readonly string[]
  #urlIndex = 0
  #settings: Settings | null = null
  #systemIdentifier: string | null = null
  #reigns = 0
  #leader: Leader | null = null
  #emitted = ''
  #isBusy = false
  #isStopped = false
  #isAsking = false
  #timer: Timer | null = null

  constructor(cluster: ClusterConfig, events: SourceEvents, tools: { clock: Clock; log: Log }) {
    this.#cluster = cluster
    this.#events = events
    this.#clock = tools.clock
    this.#log = tools.log
    this.#rest = new Rest(cluster, tools.clock, cluster.patroniTimeoutMs)
    this.#urls = cluster.patroniUrls.map((url) => restUrlOf(url) ?? url)
    this.blindMs = 2 * (cluster.patroniIntervalMs + cluster.patroniTimeoutMs)
  }

  start(): void {
    void this.#turn()
  }

  stop(): Promise<void> {
    this.#isStopped = true
    this.#timer?.cancel()
    return Promise.resolve()
  }

  setBusy(isBusy: boolean): void {
    if (isBusy === this.#isBusy) return
    this.#isBusy = isBusy
    if (isBusy && !this.#isAsking && !this.#isStopped) this.#schedule()
  }

  #schedule(): void {
    this.#timer?.cancel()
    const { patroniIntervalMs } = this.#cluster
    const delayMs = this.#isBusy ? Math.min(BUSY_MS, patroniIntervalMs) : patroniIntervalMs
    this.#timer = this.#clock.after(delayMs, () => void this.#turn())
  }

  /** One answer from the member asked last, or from the next one that gives any. Never rejects. */
  async #turn(): Promise<void> {
    this.#isAsking = true
    const tries = this.#urls.length
    for (let count = 0; count < tries && !this.#isStopped; count += 1) {
      const url = this.#urls[this.#urlIndex % this.#urls.length]
      if (url === undefined || (await this.#ask(url))) break
      this.#urlIndex += 1
    }
    this.#isAsking = false
    if (!this.#isStopped) this.#schedule()
  }

  async #ask(url: string): Promise<boolean> {
    const sentMs = this.#clock.nowMs()
    try {
      const cluster = await this.#get(`${url}/cluster`)
      if (!isObject(cluster) || listOf(cluster['members']).length === 0)
        throw new Error('answered /cluster without members')
      const settings = await this.#readSettings(url, sentMs)
      if (this.#isStopped) return true
      await this.#take(cluster, settings)
      if (!this.#isStopped) this.#events.contact(sentMs, null)
      return true
    } catch (error) {
      if (!this.#isStopped) this.#events.trouble(`Patroni ${url}: ${reasonOf(error)}`)
      return false
    }
  }

  async #take(cluster: Json, settings: Settings): Promise<void> {
    const listed = listOf(cluster['members']).filter(isObject)
    const members = listed.map(restMember).filter((member) => member.name !== '')
    const leading = listed.find((member) => LEADING.has(textOf(member['role'])))
    this.#reign(textOf(leading?.['name']))
    await this.#identify(members)
    this.#discover(members)
    const dynamic = {
      ...settings.dynamic,
      paused: cluster['pause'] === true,
      standbyCluster:
        settings.dynamic.standbyCluster || textOf(leading?.['role']) === 'standby_leader',
    }
    this.#emit({
      leader: this.#leader,
      vacancy: this.#leader === null ? 'Patroni says that nobody leads' : '',
      members,
      systemIdentifier: this.#systemIdentifier,
      dynamic,
      history: settings.history,
      failover: requestOf(cluster['scheduled_switchover']),
    })
  }

  /** REST does not tell one reign of a member from the next, only a change of names. */
  #reign(name: string): void {
    if (name === (this.#leader?.name ?? '')) return
    this.#reigns += 1
    this.#leader = name === '' ? null : { name, epoch: String(this.#reigns) }
  }

  /** The key `initialize` is not shown; every member tells its own system identifier. */
  async #identify(members: readonly ViewMember[]): Promise<void> {
    if (this.#systemIdentifier !== null || this.#leader === null) return
    const url = members.find((member) => member.name === this.#leader?.name)?.restUrl
    if (url === null || url === undefined) return
    const own = await this.#get(`${url}/patroni`).catch(() => null)
    if (!isObject(own)) return
    this.#systemIdentifier = parseInitialize(textOf(own['database_system_identifier']))
  }

  #discover(members: readonly ViewMember[]): void {
    const asked = this.#urls[this.#urlIndex % this.#urls.length]
    const configured = this.#cluster.patroniUrls.map((url) => restUrlOf(url) ?? url)
    const found = members.map((member) => member.restUrl).filter((url) => url !== null)
    this.#urls = [...new Set([...configured, ...found])].slice(0, URLS_MAX)
    this.#urlIndex = Math.max(0, this.#urls.indexOf(asked ?? ''))
  }

  async #readSettings(url: string, nowMs: number): Promise<Settings> {
    const kept = this.#settings
    if (kept !== null && nowMs - kept.readMs < SETTINGS_MS) return kept
    const [config, history] = await Promise.all([
      this.#get(`${url}/config`).catch(() => null),
      this.#get(`${url}/history`).catch(() => null),
    ])
    const read = {
      readMs: nowMs,
      dynamic: isObject(config)
        ? parseDynamic(config, this.#cluster.ttlMs)
        : (kept?.dynamic ?? parseDynamic({}, this.#cluster.ttlMs)),
      history: Array.isArray(history) ? parseHistory(history) : (kept?.history ?? []),
    }
    if (kept === null) this.#log.debug({ url, ttlMs: read.dynamic.ttlMs }, 'Patroni answered')
    this.#settings = read
    return read
  }

  #get(url: string): Promise<unknown> {
    return this.#rest.json(url)
  }

  #emit(view: ClusterView): void {
    const signature = JSON.stringify(view, (_, value: unknown) =>
      typeof value === 'bigint' ? value.toString() : value,
    )
    if (signature === this.#emitted) return
    this.#emitted = signature
    this.#events.view(view)
  }
}

/** A member of `/cluster`: host and port are those of its conn_url, split by Patroni. */
function restMember(json: Json): ViewMember {
  const host = textOf(json['host'])
  const port = Number(json['port'] ?? 0)
  return {
    name: textOf(json['name']),
    addresses: host === '' || !(port > 0) ? [] : [{ host, port }],
    proxy: null,
    restUrl: restUrlOf(json['api_url']),
    state: textOf(json['state']) || 'unknown',
    tags: tagsOf(json['tags']),
  }
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function requestOf(scheduled: unknown): ClusterView['failover'] {
  if (!isObject(scheduled)) return null
  return {
    leader: textOf(scheduled['from']) || null,
    candidate: textOf(scheduled['to']) || null,
    scheduledAt: textOf(scheduled['at']) || null,
  }
}
