/**
 * Patroni's REST API over HTTP or HTTPS, with deadlines, a bound on what is read, and the
 * certificates that the configuration names. One connection per question: questions are rare.
 */
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import type { Clock } from '../base/clock.ts'

export interface RestFiles {
  readonly patroniTlsCaFile: string | null
  readonly patroniTlsCertFile: string | null
  readonly patroniTlsKeyFile: string | null
}

const BODY_BYTES_MAX = 1024 * 1024

interface Answer {
  readonly status: number
  readonly body: string
}

export class Rest {
  readonly #clock: Clock
  readonly #deadlineMs: number
  readonly #tls: https.RequestOptions

  /** Errors  Error when a certificate's file cannot be read. */
  constructor(files: RestFiles, clock: Clock, deadlineMs: number) {
    this.#clock = clock
    this.#deadlineMs = deadlineMs
    const { patroniTlsCaFile: ca, patroniTlsCertFile: cert, patroniTlsKeyFile: key } = files
    this.#tls = {
      ...(ca ? { ca: readFileSync(ca) } : {}),
      ...(cert ? { cert: readFileSync(cert) } : {}),
      ...(key ? { key: readFileSync(key) } : {}),
    }
  }

  /**
   * The body of a 2xx answer as JSON.
   *
   * Errors  Error when there is no answer in time, another status, or no JSON.
   */
  async json(url: string): Promise<unknown> {
    const { status, body } = await this.#ask(url)
    if (status < 200 || status > 299) throw new Error(`answered ${status}`)
    return JSON.parse(body)
  }

  #ask(url: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const isTls = url.startsWith('https:')
      const options = { agent: false, ...(isTls ? this.#tls : {}) }
      const request = (isTls ? https : http).request(url, options, (response) => {
        const parts: Buffer[] = []
        let bytes = 0
        response.on('data', (part: Buffer) => {
          bytes += part.length
          parts.push(part)
          if (bytes > BODY_BYTES_MAX) request.destroy(new Error('answered too much'))
        })
        response.on('end', () => {
          timer.cancel()
          const body = Buffer.concat(parts).toString('utf8')
          resolve({ status: response.statusCode ?? 0, body })
        })
        response.on('error', reject)
      })
      const timer = this.#clock.after(this.#deadlineMs, () => {
        request.destroy(new Error(`no answer within ${this.#deadlineMs} ms`))
      })
      request.on('error', (error) => {
        timer.cancel()
        reject(error)
      })
      request.end()
    })
  }
}
