/**
 * A connection of the control plane straight to PostgreSQL, through `pg`: how it is encrypted and
 * how it is dropped at once. Values come as text unless asked for otherwise; nothing is set in the
 * session.
 */
import { Socket } from 'node:net'
import type tls from 'node:tls'
import { Client } from 'pg'
import type { ClusterConfig } from '../config/config.ts'
import type { SslMode } from '../config/keys/pgbouncer.ts'
import type { Address } from './address.ts'

export interface DirectTls {
  readonly mode: SslMode
  readonly ca?: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
}

export interface DirectAccess {
  readonly user: string
  readonly password: string
  readonly database: string
  readonly timeoutMs: number
  readonly tls: DirectTls
  /** What `pg` connects; without it one that asks the system's resolver for names. */
  readonly socket?: () => Socket
}

export interface Direct {
  readonly client: Client
  readonly address: Address
  /** The first thing that went wrong with it while nobody waited for an answer. */
  lost: Error | null
  /** The server warned that another of its processes had crashed, or that it is stopped at once. */
  hasWarned: boolean
  /** Ends it now, without a word to the server. */
  drop(): void
}

export interface DirectOptions {
  readonly usesTls: boolean
  /** application_name, so that people can tell whose connection it is. */
  readonly name: string
  /** Values as text, whatever their type. */
  readonly isText: boolean
}

/** How the control plane connects to members: probes and the function catalogue alike. */
export function probeAccess(
  cluster: ClusterConfig,
  files: Omit<DirectTls, 'mode'> = {},
  socket?: DirectAccess['socket'],
): DirectAccess {
  return {
    ...(socket === undefined ? {} : { socket }),
    user: cluster.probeUser,
    password: cluster.probePassword ?? '',
    database: cluster.probeDatabase,
    timeoutMs: cluster.probeTimeoutMs,
    tls: { ...files, mode: cluster.probeTlsSslmode },
  }
}

/** Makes the connection; `client.connect()` is the caller's, under the caller's deadline. */
export function openDirect(address: Address, access: DirectAccess, options: DirectOptions): Direct {
  const socket = access.socket?.() ?? new Socket()
  const client = new Client({
    host: address.host,
    port: address.port,
    user: access.user,
    password: access.password,
    database: access.database,
    ssl: options.usesTls ? tlsOptions(access.tls) : false,
    application_name: options.name,
    keepAlive: true,
    stream: () => socket,
    ...(options.isText ? { types: { getTypeParser: () => keepText } } : {}),
  })
  const drop = (): void => {
    socket.destroy()
  }
  const direct: Direct = { client, address, lost: null, hasWarned: false, drop }
  client.on('notice', ({ severity }) => {
    direct.hasWarned ||= severity === 'WARNING'
  })
  client.on('error', (error) => {
    direct.lost ??= error
  })
  return direct
}

/** Whether the first try is encrypted, by libpq's meaning of the mode. */
export function startsWithTls(mode: SslMode): boolean {
  return mode !== 'disable' && mode !== 'allow'
}

/** As libpq's allow and prefer: the other way is tried when this one is refused as such. */
export function shouldFlipTls(
  mode: SslMode,
  usesTls: boolean,
  failure: { code: string; reason: string },
): boolean {
  if (mode !== 'allow' && mode !== 'prefer') return false
  return failure.code === '28000' || (usesTls && failure.reason.includes('support SSL'))
}

function tlsOptions({ mode, ...files }: DirectTls): tls.ConnectionOptions {
  if (mode === 'verify-full') return files
  if (mode === 'verify-ca') return { ...files, checkServerIdentity: () => undefined }
  return { ...files, rejectUnauthorized: false }
}

function keepText(text: string): string {
  return text
}
