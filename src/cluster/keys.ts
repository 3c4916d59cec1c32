/**
 * The values that Patroni keeps under `/<namespace>/<scope>/`, read tolerantly: every version from
 * 2.0 writes slightly different JSON, and a value that cannot be read must not take the cluster
 * down with it. Nothing here believes what it reads. Source: patroni/dcs/__init__.py.
 */
import { type Address, parseConnectionUrl } from './address.ts'
import {
  DEFAULT_DYNAMIC,
  type DynamicConfig,
  type FailoverRequest,
  type ViewMember,
} from './source.ts'
import type { HistoryLine } from './topology.ts'

/** A JSON object, or an empty one for anything else. */
export type Json = Readonly<Record<string, unknown>>

/** `/service/<scope>/`, with the group below it for Citus; always with a slash at its end. */
export function keyPrefix(namespace: string, scope: string, group: number | null): string {
  const path = ['', namespace, scope, group === null ? '' : String(group), ''].join('/')
  return path.replaceAll(/\/+/g, '/')
}

export function parseObject(text: string): Json {
  const value = parseJson(text)
  return isObject(value) ? value : {}
}

/** A value of `members/<name>`. `role` is not read: it lies at bootstrap and on zombies. */
export function parseMember(name: string, text: string): ViewMember {
  const json = parseObject(text)
  return {
    name,
    addresses: parseConnectionUrl(textOf(json['conn_url'])),
    proxy: proxyOf(json['proxy_url']),
    restUrl: restUrlOf(json['api_url']),
    state: textOf(json['state']) || 'unknown',
    tags: tagsOf(json['tags']),
  }
}

/** A value of `config`: absent and null keys have Patroni's defaults, with `ttlMs` as given. */
export function parseDynamic(json: Json, ttlMs: number): DynamicConfig {
  return {
    ttlMs: secondsOf(json['ttl'], ttlMs),
    loopWaitMs: secondsOf(json['loop_wait'], DEFAULT_DYNAMIC.loopWaitMs),
    paused: isTrue(json['pause']),
    standbyCluster: isObject(json['standby_cluster']),
    failsafeMode: isTrue(json['failsafe_mode']),
    synchronousMode: json['synchronous_mode'] === 'quorum' || isTrue(json['synchronous_mode']),
  }
}

/** A value of `initialize`: empty while somebody bootstraps. */
export function parseInitialize(text: string): string | null {
  return /^\d{10,20}$/.test(text) ? text : null
}

/** A value of `history`: `[[timeline, lsn, reason, time, new leader], ...]`, 3 to 5 columns. */
export function parseHistory(value: unknown): HistoryLine[] {
  if (!Array.isArray(value)) return []
  const lines: HistoryLine[] = []
  for (const line of value) {
    if (!Array.isArray(line)) continue
    const [timeline, lsn]: unknown[] = line
    if (Number.isSafeInteger(timeline) && Number.isSafeInteger(lsn))
      lines.push({ timeline: Number(timeline), lsn: BigInt(Number(lsn)) })
  }
  return lines
}

/**
 * Whether `after` can be the same cluster's history later on: no timeline was taken back, and those
 * that both know ended at the same place. Old lines may be missing (`max_timelines_history`), and a
 * history that is gone altogether says nothing.
 */
export function isSuccessor(
  before: readonly HistoryLine[],
  after: readonly HistoryLine[],
): boolean {
  const lastBefore = before.at(-1)
  const lastAfter = after.at(-1)
  if (lastBefore === undefined || lastAfter === undefined) return true
  if (lastAfter.timeline < lastBefore.timeline) return false
  const ends = new Map(before.map((line) => [line.timeline, line.lsn]))
  return after.every((line) => (ends.get(line.timeline) ?? line.lsn) === line.lsn)
}

/** A value of `failover`: JSON, `{}` when it is over, or the old form `leader:candidate`. */
export function parseFailover(text: string): FailoverRequest | null {
  const old = /^([^:{}"]*):([^:{}"]*)$/.exec(text.trim())
  const json: Json =
    old === null ? parseObject(text) : { leader: old[1] ?? '', member: old[2] ?? '' }
  const leader = textOf(json['leader']) || null
  const candidate = textOf(json['member']) || textOf(json['candidate']) || null
  if (leader === null && candidate === null) return null
  return { leader, candidate, scheduledAt: textOf(json['scheduled_at']) || null }
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** Tags are YAML scalars: false ones are left out by Patroni, nested ones by us. */
export function tagsOf(value: unknown): Readonly<Record<string, string | number | boolean>> {
  const tags: Record<string, string | number | boolean> = {}
  if (!isObject(value)) return tags
  for (const [name, tag] of Object.entries(value))
    if (typeof tag === 'string' || typeof tag === 'number' || typeof tag === 'boolean')
      tags[name] = tag
  return tags
}

/** `http://host:8008` out of `http://host:8008/patroni`; null when it is no such URL. */
export function restUrlOf(value: unknown): string | null {
  const match = /^https?:\/\/[^/?#\s]+/.exec(textOf(value))
  return match?.[0] ?? null
}

/** Patroni reads booleans as YAML 1.1 does (parse_bool in patroni/utils.py). */
function isTrue(value: unknown): boolean {
  if (typeof value === 'string') return /^(?:on|true|yes|1)$/i.test(value)
  return value === true || value === 1
}

function secondsOf(value: unknown, fallbackMs: number): number {
  const seconds = typeof value === 'string' ? Number.parseFloat(value) : value
  return typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : fallbackMs
}

function proxyOf(value: unknown): Address | null {
  return parseConnectionUrl(textOf(value))[0] ?? null
}
