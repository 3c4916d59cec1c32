/**
 * The parts of the configuration that decide how a client must prove itself, read once and kept:
 * HBA rules, ident map, networks of proxies, ignored startup parameters. Replaced whole on RELOAD.
 */
import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Config } from '../config/config.ts'
import {
  type HbaMethod,
  type HbaRule,
  type IdentMap,
  matchHba,
  networksOf,
  parseHba,
  parseIdentMap,
} from './hba.ts'

export interface AuthRules {
  /** Null unless auth_type = hba. */
  readonly hba: readonly HbaRule[] | null
  readonly identMap: IdentMap
  /** Connections from this address begin with a PROXY header. */
  readonly isProxied: (address: string) => boolean
  /** Of ignore_startup_parameters, in lower case. */
  readonly ignored: ReadonlySet<string>
}

export interface MethodChoice {
  readonly method: HbaMethod
  /** Name of the ident map for certificates, or null. */
  readonly map: string | null
}

/** Errors  HbaError with file and line. */
export function authRules(config: Config): AuthRules {
  const { authHbaFile, authIdentFile, ignoreStartupParameters } = config.pgbouncer
  const hbaName = authHbaFile ?? 'auth_hba_file'
  const include = (path: string): string =>
    readFileSync(resolve(dirname(hbaName), path), { encoding: 'utf8' })
  return {
    hba: config.hba === null ? null : parseHba({ name: hbaName, text: config.hba, include }),
    identMap: parseIdentMap({ name: authIdentFile ?? 'auth_ident_file', text: config.ident ?? '' }),
    isProxied: networksOf(config.pgsteer.proxyProtocolNetworks),
    ignored: new Set(ignoreStartupParameters.map((name) => name.toLowerCase())),
  }
}

/** The method for a connection; null where no HBA line fits. */
export function methodFor(
  config: Config,
  rules: AuthRules,
  connection: Parameters<typeof matchHba>[1],
): MethodChoice | null {
  const { authType } = config.pgbouncer
  if (authType !== 'hba') return { method: authType, map: null }
  const rule = matchHba(rules.hba ?? [], connection)
  return rule === null ? null : { method: rule.method, map: rule.map }
}
