/**
 * The rules for stack files, as one table: what `docker stack config` lets pass and what has cost
 * other people their data. Each rule is a named entry with what has to hold and why; rules.test.ts
 * breaks each of them once. What they know of PostgreSQL, Patroni and etcd is in the files beside.
 */
import { DATABASE_RULES } from './rules-database.ts'
import { FILE_RULES } from './rules-files.ts'
import { NETWORK_RULES } from './rules-networks.ts'
import { SECRET_RULES } from './rules-secrets.ts'
import { SERVICE_RULES } from './rules-services.ts'
import type { Stack } from './stack.ts'

export interface Rule {
  readonly name: string
  /** What has to hold. */
  readonly says: string
  readonly why: string
  /** Of Swarm alone: a compose file for one machine need not obey. */
  readonly isForSwarm?: true
  readonly check: (stack: Stack, all: readonly Stack[]) => Iterable<Fault>
}

export interface Fault {
  /** A service, or a part of the file such as `networks.db`. */
  readonly where: string
  readonly what: string
}

export interface Finding extends Fault {
  readonly rule: string
  readonly file: string
}

export const RULES: readonly Rule[] = [
  ...FILE_RULES,
  ...SERVICE_RULES,
  ...DATABASE_RULES,
  ...NETWORK_RULES,
  ...SECRET_RULES,
]

/** Judges stacks that are deployed together: they share networks and the nodes' ports. */
export function judge(stacks: readonly Stack[]): Finding[] {
  const findings: Finding[] = []
  for (const stack of stacks)
    for (const { name: rule, isForSwarm, check } of RULES)
      if (stack.kind === 'swarm' || isForSwarm !== true)
        for (const { where, what } of check(stack, stacks))
          findings.push({ rule, file: stack.file, where, what })
  return findings
}

/** One line per finding, for a person. */
export function told(findings: readonly Finding[]): string {
  return findings
    .map(({ file, where, rule, what }) => `${file}: ${where}: ${what} (${rule})`)
    .join('\n')
}
