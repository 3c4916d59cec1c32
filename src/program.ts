/**
 * What the three processes have in common: their log, and the proof that a configuration can be
 * used before anybody uses it.
 */
import { authRules } from './auth/rules.ts'
import { reasonOf } from './base/errors.ts'
import { createLog, type Log } from './base/log.ts'
import type { Config } from './config/config.ts'
import { type Loaded, loadConfig } from './config/load.ts'
import { ClientTls, clientTlsSettings, ServerTls, serverTlsSettings } from './net/tls.ts'

/** A child's exit code for what a restart cannot mend: an address that is taken, for one. */
export const FATAL_EXIT = 78

/** The log of one process, as the configuration wants it. */
export function processLog(config: Config, name: string): Log {
  const { pgbouncer, pgsteer } = config
  return createLog(
    {
      level: pgbouncer.verbose !== null && pgbouncer.verbose > 0 ? 'debug' : pgsteer.logLevel,
      format: pgsteer.logFormat,
      file: pgbouncer.logfile === null || pgbouncer.logfile === '' ? undefined : pgbouncer.logfile,
    },
    { process: name, pid: process.pid },
  )
}

/**
 * Loads a configuration and tries everything that is made of it: HBA lines, certificates, keys.
 *
 * Errors  ConfigError with all problems of the files, else an Error that names what cannot be used.
 */
export function loadUsable(file: string, env: NodeJS.ProcessEnv): Loaded {
  const loaded = loadConfig(file, env)
  const { pgbouncer, cluster } = loaded.config
  try {
    authRules(loaded.config)
    void new ClientTls(clientTlsSettings(pgbouncer))
    void new ServerTls(serverTlsSettings(pgbouncer))
    if (cluster !== null)
      void new ServerTls({ ...serverTlsSettings(pgbouncer), sslmode: cluster.probeTlsSslmode })
  } catch (error) {
    throw new Error(`${file}: ${reasonOf(error)}`, { cause: error })
  }
  return loaded
}
