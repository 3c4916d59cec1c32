import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { certificateText } from '../../../src/deploy/watched.ts'

const SHIPPED = join(import.meta.dirname, '../../../deploy/prometheus/certificates.prom')

test('each certificate is one series, of two authorities the one that lasts', () => {
  const text = certificateText([
    { name: 'ca', endsMs: 1_000_999 },
    { name: 'ca', endsMs: 2_000_000 },
    { name: 'patroni1', endsMs: 3_000_000 },
  ])
  const lines = text.trimEnd().split('\n')
  expect(lines.filter((line) => !line.startsWith('#'))).toEqual([
    'pg_cluster_certificate_not_after_timestamp_seconds{certificate="ca"} 2000',
    'pg_cluster_certificate_not_after_timestamp_seconds{certificate="patroni1"} 3000',
  ])
})

test('its type is that of the file that is shipped', () => {
  expect(typeOf(certificateText([]))).toBe(typeOf(readFileSync(SHIPPED, 'utf8')))
})

function typeOf(text: string): string | undefined {
  return /^# TYPE .*$/m.exec(text)?.[0]
}
