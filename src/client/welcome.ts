/**
 * What a client is told at its log-in, and what it asked for there: made once for all clients that
 * ask the same of the same pool, as one buffer and values that their sessions share.
 */
import type { PoolConfig } from '../config/config.ts'
import { internSettings, type Settings } from '../server/settings.ts'
import {
  authenticationOk,
  backendKeyData,
  noticeResponse,
  parameterStatus,
  READY_IDLE,
} from '../wire/messages.ts'
import type { CancelKey } from './cancel.ts'
import { latin1Statement } from './settings.ts'
import { MIN_LSN } from './token.ts'

export interface Welcome {
  /** The settings that the startup packet asked for, as statements. */
  readonly baseline: Settings
  /** The parameters that the client is told of. */
  readonly parameters: ReadonlyMap<string, string>
  /** AuthenticationOk and the ParameterStatus messages. */
  readonly head: Buffer
}

/** What startup packets may differ in: names of applications, most of all. */
const WELCOMES_MAX = 100
/** Startup packets with more than this are not remembered. */
const KEY_CHARACTERS_MAX = 1000

export class WelcomeCache {
  /** By what the servers of a pool report, which is one value until it changes. */
  readonly #known = new WeakMap<ReadonlyMap<string, string>, Map<string, Welcome>>()

  /** `served`: what the servers of the pool report; `startup`: names in lower case. */
  find(
    served: ReadonlyMap<string, string>,
    startup: ReadonlyMap<string, string>,
    config: PoolConfig,
  ): Welcome {
    const key = keyOf(startup, config)
    const known = this.#known.get(served) ?? new Map<string, Welcome>()
    const found = known.get(key)
    if (found !== undefined) return found
    const welcome = welcomeOf(served, startup, config)
    if (key.length > KEY_CHARACTERS_MAX) return welcome
    if (known.size >= WELCOMES_MAX) known.clear()
    this.#known.set(served, known.set(key, welcome))
    return welcome
  }
}

/** The whole welcome of one client, up to its first ReadyForQuery. `notice`: null or '' for none. */
export function welcomeFrames({ head }: Welcome, key: CancelKey, notice: string | null): Buffer {
  const keyData = backendKeyData(key.processId, key.secret)
  if (notice === null || notice === '') return Buffer.concat([head, keyData, READY_IDLE])
  return Buffer.concat([head, keyData, noticeResponse(notice), READY_IDLE])
}

/** Names and values hold no zero byte: they came from a startup packet. */
function keyOf(startup: ReadonlyMap<string, string>, { isRouted, route }: PoolConfig): string {
  let key = isRouted ? route : ''
  for (const [name, value] of startup) key += `\0${name}\0${value}`
  return key
}

function welcomeOf(
  served: ReadonlyMap<string, string>,
  startup: ReadonlyMap<string, string>,
  config: PoolConfig,
): Welcome {
  const parameters = told(served, startup, config)
  const frames = [authenticationOk()]
  for (const [name, value] of parameters) frames.push(parameterStatus(name, value))
  return { baseline: baselineOf(startup, config), parameters, head: Buffer.concat(frames) }
}

/** A session reports the role of its route, never that of the server that happens to answer. */
function told(
  served: ReadonlyMap<string, string>,
  startup: ReadonlyMap<string, string>,
  { isRouted, route }: PoolConfig,
): ReadonlyMap<string, string> {
  const parameters = new Map(served)
  for (const name of served.keys()) {
    const asked = startup.get(name.toLowerCase())
    if (asked !== undefined) parameters.set(name, asked)
  }
  if (parameters.has('in_hot_standby') && isRouted)
    parameters.set('in_hot_standby', route === 'replica' ? 'on' : 'off')
  return parameters
}

/** The token of a routed entry is the session's, never a server's. */
function baselineOf(startup: ReadonlyMap<string, string>, { isRouted }: PoolConfig): Settings {
  const entries = new Map<string, string>()
  for (const [name, value] of startup)
    if (!isRouted || name !== MIN_LSN) entries.set(name, latin1Statement(name, value))
  return internSettings(entries)
}
