#!/usr/bin/env node
/**
 * The command line: PgBouncer's flags, and the verbs `check`, `health` and `cluster` of our own.
 */
import { execFileSync, spawn } from 'node:child_process'
import { openSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { reasonOf } from './base/errors.ts'
import type { Config } from './config/config.ts'
import { describeConfig } from './config/describe.ts'
import { Main } from './main.ts'
import { loadUsable, processLog } from './program.ts'
import { VERSION } from './version.ts'

const USAGE = `pgsteer ${VERSION}: a failover-aware PostgreSQL connection proxy

Usage: pgsteer [OPTION]... FILE.ini
       pgsteer check FILE.ini      validate the file and print what it means (-q: only what is wrong)
       pgsteer health [URL]        ask a running pgsteer whether it is ready
       pgsteer cluster COMMAND     deploy a whole cluster on Docker Swarm (pgsteer cluster --help)

  -d, --daemon       run in the background (needs logfile in the file)
  -q, --quiet        log errors only
  -u, --user=NAME    run as this user, when started by root
  -v, --verbose      log more; twice: everything
  -V, --version      print the version
  -h, --help         print this

Every key of [pgbouncer] and [pgsteer] can come from the environment as PGSTEER_<KEY>, those of
[cluster] as PGSTEER_CLUSTER_<KEY>, and from a file named by PGSTEER_<KEY>_FILE.
`

const OPTIONS = {
  daemon: { type: 'boolean', short: 'd' },
  quiet: { type: 'boolean', short: 'q' },
  user: { type: 'string', short: 'u' },
  verbose: { type: 'boolean', short: 'v', multiple: true },
  version: { type: 'boolean', short: 'V' },
  help: { type: 'boolean', short: 'h' },
} as const

/** Wrong use, and a configuration that cannot be used. */
const EXIT_USAGE = 2
const EXIT_CONFIG = 1
const HEALTH_MS = 3000
/** As in package.json; npm only warns. */
const NODE_MAJOR_MIN = 24

async function run(): Promise<number> {
  if (process.argv[2] === 'cluster') return await cluster(process.argv.slice(3))
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true })
  if (values.help === true) return print(USAGE)
  if (values.version === true) return print(`pgsteer ${VERSION}\n`)
  const [first, second] = positionals
  if (first === 'check' && positionals.length === 2)
    return check(second ?? '', values.quiet === true)
  if (first === 'health' && positionals.length <= 2) return await health(second)
  if (first === undefined || positionals.length > 1) return fail(USAGE, EXIT_USAGE)
  const env = environment(values)
  if (values.daemon === true) return daemon(first, env)
  return await serve(first, env)
}

function environment(values: {
  quiet?: boolean
  user?: string
  verbose?: boolean[]
}): NodeJS.ProcessEnv {
  const env = { ...process.env }
  if (values.quiet === true) env['PGSTEER_LOG_LEVEL'] = 'error'
  if (values.verbose !== undefined)
    env['PGSTEER_LOG_LEVEL'] = values.verbose.length > 1 ? 'trace' : 'debug'
  if (values.user !== undefined) env['PGSTEER_USER'] = values.user
  return env
}

async function serve(file: string, env: NodeJS.ProcessEnv): Promise<number> {
  const { node } = process.versions
  if (Number.parseInt(node, 10) < NODE_MAJOR_MIN)
    return fail(`pgsteer needs Node ${NODE_MAJOR_MIN} or newer, this is ${node}\n`, EXIT_CONFIG)
  const { config, warnings } = loadUsable(file, env)
  becomeUser(config)
  const log = processLog(config, 'main')
  return await new Main({ config, warnings, log, env }).run()
}

/** Nothing here needs root: the ports are above 1023, so rights are given up before the start. */
function becomeUser(config: Config): void {
  const { user } = config.pgbouncer
  if (user === null || user === '' || process.getuid?.() !== 0) return
  const gid = Number(execFileSync('id', ['-g', user], { encoding: 'utf8' }))
  process.setgroups?.([gid])
  process.setgid?.(gid)
  process.setuid?.(user)
}

/** Loaded when asked for: a running proxy needs none of it. */
async function cluster(args: readonly string[]): Promise<number> {
  const { runCluster } = await import('./deploy/cluster.ts')
  return await runCluster(args)
}

function check(file: string, isQuiet: boolean): number {
  const { config, warnings } = loadUsable(file, process.env)
  for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`)
  return isQuiet ? 0 : print(describeConfig(config, { showDefaults: true }))
}

async function health(url = 'http://127.0.0.1:9632/readyz'): Promise<number> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(HEALTH_MS) })
    print(`${(await response.text()).trim()}\n`)
    return response.ok ? 0 : 1
  } catch (error) {
    return fail(`${url}: ${reasonOf(error)}\n`, 1)
  }
}

function daemon(file: string, env: NodeJS.ProcessEnv): number {
  const { config } = loadUsable(file, env)
  const { logfile } = config.pgbouncer
  if (logfile === null || logfile === '')
    return fail('-d needs logfile in [pgbouncer]: there is no terminal to log to\n', EXIT_CONFIG)
  const output = openSync(logfile, 'a')
  const child = spawn(process.execPath, [...process.execArgv, import.meta.filename, file], {
    detached: true,
    env,
    stdio: ['ignore', output, output],
  })
  child.unref()
  return print(`pgsteer runs in the background as process ${child.pid ?? '?'}\n`)
}

function print(text: string): number {
  process.stdout.write(text)
  return 0
}

function fail(text: string, code: number): number {
  process.stderr.write(text)
  return code
}

try {
  process.exitCode = await run()
} catch (error) {
  process.exitCode = fail(`${reasonOf(error)}\n`, EXIT_CONFIG)
}
