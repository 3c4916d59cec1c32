/**
 * TLS on both sides, from the client_tls_* and server_tls_* keys: contexts that are made whole or
 * not at all, so that a broken new file on RELOAD changes nothing. The meanings of sslmode are
 * PgBouncer's and libpq's. Decides nothing about PostgreSQL's SSLRequest.
 */
import { constants, createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isIP, type Socket } from 'node:net'
import {
  type ConnectionOptions,
  checkServerIdentity,
  connect,
  createSecureContext,
  type SecureContext,
  type SecureContextOptions,
  TLSSocket,
} from 'node:tls'
import { reasonOf } from '../base/errors.ts'
import type { PgbouncerConfig } from '../config/config.ts'
import type { SslMode } from '../config/keys/pgbouncer.ts'

/** The name of PostgreSQL in ALPN, which direct TLS must offer. */
export const ALPN = 'postgresql'
/** As it is on the wire: a length and a name. */
const ALPN_LIST = Buffer.from(`${String.fromCharCode(ALPN.length)}${ALPN}`)

/** One side's keys of [pgbouncer], without their prefix. */
export interface TlsSettings {
  readonly sslmode: SslMode
  readonly caFile: string | null
  readonly certFile: string | null
  readonly keyFile: string | null
  /** OpenSSL's list, or PgBouncer's words default, secure, compat, legacy, all. */
  readonly ciphers: string
  readonly tls13Ciphers: string | null
  /** tlsv1.0 to tlsv1.3, all, secure, default, legacy, joined by commas. */
  readonly protocols: string
  /** auto, none, or the name of a curve. */
  readonly ecdhCurve: string
}

/** A certificate, key or setting that cannot be used; the message names the file and the remedy. */
export class TlsError extends Error {}

interface ClientState {
  readonly mode: SslMode
  /** Only with authorities of our own are clients asked for a certificate. */
  readonly asksCertificate: boolean
  readonly context: SecureContext | null
  readonly binding: Buffer | null
}

/** TLS towards clients: we are the TLS server. */
export class ClientTls {
  #state: ClientState

  /** Errors  TlsError. */
  constructor(settings: TlsSettings) {
    this.#state = clientState(settings)
  }

  /** Takes new settings and files. Errors: TlsError, and everything stays as it was. */
  reload(settings: TlsSettings): void {
    this.#state = clientState(settings)
  }

  get isOffered(): boolean {
    return this.#state.context !== null
  }

  /** Plain connections over TCP are refused. */
  get isRequired(): boolean {
    const { mode } = this.#state
    return mode === 'require' || mode === 'verify-ca' || mode === 'verify-full'
  }

  /** A client without a certificate of our authority is refused. */
  get needsCertificate(): boolean {
    const { mode } = this.#state
    return mode === 'verify-ca' || mode === 'verify-full'
  }

  /** tls-server-end-point of our certificate; null where RFC 5929 does not define it. */
  get binding(): Buffer | null {
    return this.#state.binding
  }

  /** Begins the handshake; for Channel.upgrade. */
  wrap(plain: Socket): TLSSocket {
    const { context } = this.#state
    if (context === null) throw new TlsError('TLS is disabled (client_tls_sslmode)')
    return new TLSSocket(plain, {
      isServer: true,
      secureContext: context,
      requestCert: this.#state.asksCertificate,
      rejectUnauthorized: false,
      ALPNProtocols: ALPN_LIST,
    })
  }
}

/**
 * Whether the client showed a certificate that our authorities signed, is valid now and may be used
 * by clients: OpenSSL's own verdict. A TLSSocket that no tls.Server made does not publish it as
 * `authorized`, so it is read where tls.Server reads it; were it not there, nobody is believed.
 */
export function certificateVerdict(socket: TLSSocket): 'none' | 'certified' | 'refused' {
  if (socket.getPeerX509Certificate() === undefined) return 'none'
  const handle: unknown = Reflect.get(socket, '_handle')
  const isRight = isVerifier(handle) && (handle.verifyError() ?? null) === null
  return isRight ? 'certified' : 'refused'
}

interface Verifier {
  verifyError(): Error | null
}

function isVerifier(handle: unknown): handle is Verifier {
  return typeof handle === 'object' && handle !== null && 'verifyError' in handle
}

interface ServerState {
  readonly mode: SslMode
  readonly context: SecureContext | null
}

/** TLS towards servers: we are the TLS client. */
export class ServerTls {
  #state: ServerState

  /** Errors  TlsError. */
  constructor(settings: TlsSettings) {
    this.#state = serverState(settings)
  }

  /** Takes new settings and files. Errors: TlsError, and everything stays as it was. */
  reload(settings: TlsSettings): void {
    this.#state = serverState(settings)
  }

  get mode(): SslMode {
    return this.#state.mode
  }

  /** Begins the handshake with the server known as `host`; for Channel.upgrade. */
  wrap(plain: Socket, host: string): TLSSocket {
    return connect({ socket: plain, ...this.options(host) })
  }

  /** What tls.connect needs besides a socket; `pg` takes it as `ssl`. */
  options(host: string): ConnectionOptions {
    const { context, mode } = this.#state
    if (context === null) throw new TlsError('TLS is disabled (server_tls_sslmode)')
    const verifies = mode === 'verify-ca' || mode === 'verify-full'
    return {
      secureContext: context,
      // A name for SNI; for an address only the name that the certificate is checked against.
      ...(isIP(host) === 0 ? { servername: host } : { host }),
      rejectUnauthorized: verifies,
      ALPNProtocols: [ALPN],
      checkServerIdentity: (name, certificate) =>
        mode === 'verify-full' ? checkServerIdentity(name, certificate) : undefined,
    }
  }
}

/** Protocol and cipher as SHOW CLIENTS prints them, or '' on a plain channel. */
export function tlsText(socket: TLSSocket | null): string {
  if (socket === null) return ''
  return `${socket.getProtocol() ?? 'TLS'}/${socket.getCipher().standardName}`
}

/**
 * tls-server-end-point (RFC 5929, 4.1): the certificate's hash by its own signature's hash function,
 * SHA-256 in place of MD5 and SHA-1. Null where the signature has none of its own (Ed25519, PSS).
 */
export function endPointHash(certificate: X509Certificate): Buffer | null {
  const match = /sha-?(1|224|256|384|512)\b/i.exec(certificate.signatureAlgorithm ?? '')
  const isMd5 = /md5/i.test(certificate.signatureAlgorithm ?? '')
  if (match === null && !isMd5) return null
  const bits = match?.[1]
  const algorithm = isMd5 || bits === undefined || bits === '1' ? 'sha256' : `sha${bits}`
  return createHash(algorithm).update(certificate.raw).digest()
}

function clientState(settings: TlsSettings): ClientState {
  const mode = settings.sslmode
  if (mode === 'disable') return { mode, asksCertificate: false, context: null, binding: null }
  if (settings.certFile === null || settings.keyFile === null)
    throw new TlsError(
      `client_tls_sslmode = ${mode} needs client_tls_cert_file and client_tls_key_file`,
    )
  if ((mode === 'verify-ca' || mode === 'verify-full') && settings.caFile === null)
    throw new TlsError(`client_tls_sslmode = ${mode} needs client_tls_ca_file`)
  const { options, certificate } = contextOptions('client', settings)
  const context = contextOf('client', {
    ...options,
    honorCipherOrder: true,
    dhparam: 'auto',
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  })
  const binding = certificate === null ? null : endPointHash(certificate)
  return { mode, asksCertificate: settings.caFile !== null, context, binding }
}

function serverState(settings: TlsSettings): ServerState {
  const mode = settings.sslmode
  if (mode === 'disable') return { mode, context: null }
  if ((mode === 'verify-ca' || mode === 'verify-full') && settings.caFile === null)
    throw new TlsError(`server_tls_sslmode = ${mode} needs server_tls_ca_file`)
  if ((settings.certFile === null) !== (settings.keyFile === null))
    throw new TlsError('server_tls_cert_file and server_tls_key_file go together')
  return { mode, context: contextOf('server', contextOptions('server', settings).options) }
}

type Side = 'client' | 'server'

function contextOptions(
  side: Side,
  settings: TlsSettings,
): { options: SecureContextOptions; certificate: X509Certificate | null } {
  const { caFile, certFile, keyFile } = settings
  const ca = caFile === null ? null : readPem(side, 'ca_file', caFile)
  const cert = certFile === null ? null : readPem(side, 'cert_file', certFile)
  const key = keyFile === null ? null : readPem(side, 'key_file', keyFile)
  const certificate = cert === null ? null : certificateOf(side, certFile ?? '', cert)
  if (ca !== null) certificateOf(side, caFile ?? '', ca)
  if (certificate !== null && key !== null) checkPair(side, { certificate, key, keyFile })
  return {
    certificate,
    options: {
      ...(ca === null ? {} : { ca }),
      ...(cert === null ? {} : { cert }),
      ...(key === null ? {} : { key }),
      ...cipherOptions(settings),
      ...versionOptions(settings.protocols),
      ...curveOptions(settings.ecdhCurve),
    },
  }
}

function readPem(side: Side, key: string, path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new TlsError(`${side}_tls_${key}: ${reasonOf(error)}`, { cause: error })
  }
}

function certificateOf(side: Side, path: string, pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (error) {
    throw new TlsError(`${side}_tls: ${path} holds no certificate: ${reasonOf(error)}`, {
      cause: error,
    })
  }
}

interface Pair {
  readonly certificate: X509Certificate
  readonly key: Buffer
  readonly keyFile: string | null
}

function checkPair(side: Side, { certificate, key, keyFile }: Pair): void {
  let fits: boolean
  try {
    fits = certificate.checkPrivateKey(createPrivateKey(key))
  } catch (error) {
    throw new TlsError(`${side}_tls_key_file: ${keyFile}: ${reasonOf(error)}`, { cause: error })
  }
  if (!fits) throw new TlsError(`${side}_tls_key_file: ${keyFile} is not the certificate's key`)
}

/** PgBouncer's words for cipher lists (libtls). */
const CIPHER_WORDS: Readonly<Record<string, string | null>> = {
  default: null,
  secure: null,
  normal: null,
  fast: null,
  compat: 'HIGH:!aNULL:!eNULL',
  legacy: 'HIGH:MEDIUM:!aNULL:!eNULL',
  all: 'ALL:!aNULL:!eNULL',
  insecure: 'ALL:!aNULL:!eNULL',
}
const TLS13_CIPHERS = 'TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256'
const TLS12_CIPHERS = 'HIGH:!aNULL:!eNULL'

/** Node takes the suites of TLS 1.3 and the ciphers below in one list. */
function cipherOptions({ ciphers, tls13Ciphers }: TlsSettings): { ciphers?: string } {
  const below = ciphers in CIPHER_WORDS ? CIPHER_WORDS[ciphers] : ciphers
  if (below === null && tls13Ciphers === null) return {}
  return { ciphers: `${tls13Ciphers ?? TLS13_CIPHERS}:${below ?? TLS12_CIPHERS}` }
}

const VERSIONS = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const
type Version = (typeof VERSIONS)[number]

/** A set of versions as the lowest and the highest: gaps cannot be said to OpenSSL and are filled. */
function versionOptions(protocols: string): { minVersion: Version; maxVersion: Version } {
  const chosen = new Set<Version>()
  for (const word of protocols.split(/[,:]/)) {
    const isRemoved = word.startsWith('!')
    for (const version of versionsOf(word.replace('!', ''))) {
      if (isRemoved) chosen.delete(version)
      else chosen.add(version)
    }
  }
  const sorted = VERSIONS.filter((version) => chosen.has(version))
  const [minVersion] = sorted
  const maxVersion = sorted.at(-1)
  if (minVersion === undefined || maxVersion === undefined)
    throw new TlsError(`tls_protocols = ${protocols} leaves no version`)
  return { minVersion, maxVersion }
}

function versionsOf(word: string): readonly Version[] {
  switch (word) {
    case 'tlsv1.0':
      return ['TLSv1']
    case 'tlsv1.1':
      return ['TLSv1.1']
    case 'tlsv1.2':
      return ['TLSv1.2']
    case 'tlsv1.3':
      return ['TLSv1.3']
    case 'all':
    case 'legacy':
    case 'tlsv1':
      return VERSIONS
    default:
      return ['TLSv1.2', 'TLSv1.3']
  }
}

function curveOptions(curve: string): { ecdhCurve?: string } {
  return curve === 'auto' || curve === 'none' || curve === '' ? {} : { ecdhCurve: curve }
}

function contextOf(side: Side, options: SecureContextOptions): SecureContext {
  try {
    return createSecureContext(options)
  } catch (error) {
    throw new TlsError(`${side}_tls: ${reasonOf(error)}`, { cause: error })
  }
}

/** The keys of one side, out of [pgbouncer]. */
export function clientTlsSettings(keys: PgbouncerConfig): TlsSettings {
  return {
    sslmode: keys.clientTlsSslmode,
    caFile: keys.clientTlsCaFile,
    certFile: keys.clientTlsCertFile,
    keyFile: keys.clientTlsKeyFile,
    ciphers: keys.clientTlsCiphers,
    tls13Ciphers: keys.clientTls13Ciphers,
    protocols: keys.clientTlsProtocols,
    ecdhCurve: keys.clientTlsEcdhcurve,
  }
}

export function serverTlsSettings(keys: PgbouncerConfig): TlsSettings {
  return {
    sslmode: keys.serverTlsSslmode,
    caFile: keys.serverTlsCaFile,
    certFile: keys.serverTlsCertFile,
    keyFile: keys.serverTlsKeyFile,
    ciphers: keys.serverTlsCiphers,
    tls13Ciphers: keys.serverTls13Ciphers,
    protocols: keys.serverTlsProtocols,
    ecdhCurve: 'auto',
  }
}
