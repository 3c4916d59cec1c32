/**
 * Certificates for TLS tests, made by openssl: an authority, and what it signs.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Pair {
  readonly certFile: string
  readonly keyFile: string
}

export interface PairOptions {
  readonly commonName: string
  /** As in `DNS:localhost,IP:127.0.0.1`. */
  readonly names?: string
  /** Days until it ends; negative for one that has ended. */
  readonly days?: number
}

export class Authority {
  readonly caFile: string
  readonly #directory: string
  readonly #keyFile: string
  #serial = 0

  constructor(directory: string) {
    mkdirSync(directory, { recursive: true })
    this.#directory = directory
    this.caFile = join(directory, 'ca.crt')
    this.#keyFile = join(directory, 'ca.key')
    openssl(
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ['-keyout', this.#keyFile, '-out', this.caFile, '-subj', '/CN=test authority'],
    )
  }

  issue({ commonName, names, days = 30 }: PairOptions): Pair {
    this.#serial += 1
    const base = join(this.#directory, `${this.#serial}`)
    const [certFile, keyFile, request] = [`${base}.crt`, `${base}.key`, `${base}.csr`]
    openssl(
      ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ['-keyout', keyFile, '-out', request, '-subj', `/CN=${commonName}`],
    )
    writeFileSync(`${base}.ext`, names === undefined ? '' : `subjectAltName=${names}\n`)
    openssl(
      ['x509', '-req', '-in', request, '-CA', this.caFile, '-CAkey', this.#keyFile],
      ['-set_serial', String(this.#serial), '-days', String(days), '-out', certFile],
      ['-sha256', '-extfile', `${base}.ext`],
    )
    return { certFile, keyFile }
  }
}

function openssl(...args: readonly (readonly string[])[]): void {
  execFileSync('openssl', args.flat(), { stdio: 'pipe' })
}
