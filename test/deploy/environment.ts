/**
 * Values for the variables of the stack files, as an operator's environment would have them: what the
 * files insist on, and, if asked for, what they have a default for as well.
 */
import { type Stack, variables } from './stack.ts'

/** By the end of the name, the first that fits. */
const VALUES: readonly (readonly [name: RegExp, value: string])[] = [
  [/_IMAGE$/, 'registry.example/some/image:1.2.3'],
  [/_SHA$/, '0123456789ab'],
  [/_EPOCH$/, '1'],
  [/_SUBNET$/, '10.78.1.0/24'],
  [/_PORT$/, '16432'],
  [/_MEMORY$|_SIZE$/, '2G'],
  [/_BYTES$/, '1073741824'],
  [/_URL$/, 'https://grafana.example/'],
  [/_FILE$/, '/dev/null'],
  [/_MS$|_MAX$|^BACKUP_REPOSITORIES$/, '2'],
  [/_STATE$/, 'existing'],
  [/^CLUSTER$/, 'main'],
  [/^ENCRYPTED$/, 'false'],
  [/^MEMBERS$/, 'patroni1,patroni2,patroni3'],
  [/^PACKAGES$/, 'debian'],
  [/^TZ$/, 'America/Sao_Paulo'],
  [/^BACKUP_/, '0 3 * * 0'],
  [/_RETENTION$/, '7d'],
  [/_EMAIL$/, 'dba@example.org'],
]

/** Of one file; `all` names the optional variables too. */
export function environmentOf(
  stack: Stack,
  { all = false }: { all?: boolean } = {},
): Record<string, string> {
  const names = [...variables(stack)].filter(([, { isRequired }]) => all || isRequired)
  return Object.fromEntries(names.map(([name]) => [name, valueFor(name)]))
}

function valueFor(name: string): string {
  const value = VALUES.find(([pattern]) => pattern.test(name))?.[1]
  if (value === undefined) throw new Error(`environment.ts has no value for ${name}`)
  return value
}
