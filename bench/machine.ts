/**
 * What a result was measured on, as it is kept beside its numbers.
 */
import { cpus, release } from 'node:os'

export function machine(): Readonly<Record<string, string | number>> {
  return {
    cpus: cpus().length,
    model: cpus()[0]?.model ?? '?',
    kernel: release(),
    node: process.version,
  }
}
