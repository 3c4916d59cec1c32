/**
 * When the certificates of the configuration end, for the metric that alerts are made of. Read once
 * per configuration: what RELOAD has not applied is not in force.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Config } from '../config/config.ts'

export interface CertificateEnd {
  /** The key that names the file. */
  readonly key: string
  /** Seconds since 1970. */
  readonly notAfterS: number
}

export class Certificates {
  #config: Config | null = null
  #ends: readonly CertificateEnd[] = []

  /** A file that cannot be read is left out: who loads it for TLS says what is wrong. */
  of(config: Config): readonly CertificateEnd[] {
    if (this.#config !== config) {
      const { clientTlsCertFile, serverTlsCertFile } = config.pgbouncer
      this.#ends = [
        ...endOf('client_tls_cert_file', clientTlsCertFile),
        ...endOf('server_tls_cert_file', serverTlsCertFile),
      ]
      this.#config = config
    }
    return this.#ends
  }
}

function endOf(key: string, file: string | null): CertificateEnd[] {
  if (file === null || file === '') return []
  try {
    const certificate = new X509Certificate(readFileSync(file))
    return [{ key, notAfterS: certificate.validToDate.getTime() / 1000 }]
  } catch {
    return []
  }
}
