/**
 * What one run of a shape's load is and gives, whether pgbench makes it or our own clients.
 */
import type { LoadShape } from './shapes.ts'

export interface Load {
  readonly port: number
  readonly seconds: number
  readonly shape: Pick<LoadShape, 'script' | 'mode' | 'clients' | 'isConnect'>
  readonly isTls: boolean
  /** Where files go for the time being. */
  readonly directory: string
}

export interface LoadResult {
  readonly transactions: number
  readonly tps: number
  readonly p50Us: number
  readonly p99Us: number
  /** What all clients together took to connect, in milliseconds. */
  readonly connectMs: number
}

export function percentile(sorted: Float64Array, part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}
