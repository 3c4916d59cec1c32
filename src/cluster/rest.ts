/**
 * Patroni's REST API over fetch, with deadlines and a bound on what is read. Certificates are
 * checked as Node checks them; a private authority comes in by NODE_EXTRA_CA_CERTS.
 */
import type { Clock } from '../base/clock.ts'

const BODY_BYTES_MAX = 1024 * 1024

/** Returns the status, or null when there was no answer within `deadlineMs`. */
export async function fetchStatus(
  url: string,
  clock: Clock,
  deadlineMs: number,
): Promise<number | null> {
  const abort = new AbortController()
  const timer = clock.after(deadlineMs, () => abort.abort())
  try {
    const response = await fetch(url, { method: 'HEAD', signal: abort.signal })
    return response.status
  } catch {
    return null
  } finally {
    timer.cancel()
  }
}

/**
 * Returns the body of a 2xx answer as JSON.
 *
 * Errors  Error when there is no answer within `deadlineMs`, another status, or no JSON.
 */
export async function fetchJson(url: string, clock: Clock, deadlineMs: number): Promise<unknown> {
  const abort = new AbortController()
  const timer = clock.after(deadlineMs, () => {
    abort.abort(new Error(`no answer within ${deadlineMs} ms`))
  })
  try {
    const response = await fetch(url, { signal: abort.signal })
    if (!response.ok) throw new Error(`answered ${response.status}`)
    return JSON.parse(await readBounded(response))
  } finally {
    timer.cancel()
  }
}

async function readBounded(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of response.body ?? []) {
    bytes += part.length
    if (bytes > BODY_BYTES_MAX) throw new Error(`answered more than ${BODY_BYTES_MAX} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}
