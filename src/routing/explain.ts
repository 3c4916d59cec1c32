/**
 * EXPLAIN ROUTE: where a text would go outside a transaction, statement by statement, in sentences.
 */

import type { Topology } from '../cluster/topology.ts'
import type { PgsteerConfig } from '../config/config.ts'
import type { Catalogue } from './catalogue.ts'
import { classify } from './classify.ts'
import { REASONS, routeBatch } from './route.ts'

export interface ExplainContext {
  readonly catalogue: Catalogue
  readonly topology: Topology
  readonly pgsteer: PgsteerConfig
}

export interface RouteExplanation {
  readonly route: string
  readonly reason: string
  readonly members: readonly string[]
  readonly detail: string
}

export function explainRoute(sql: string, context: ExplainContext): RouteExplanation[] {
  const { catalogue, topology, pgsteer } = context
  const classified = classify(Buffer.from(sql).toString('latin1'), catalogue)
  const route = routeBatch({
    classified: [classified],
    sessionRoute: pgsteer.route,
    inTransaction: 'no',
    pinned: false,
    defaultReadOnly: false,
    standardStrings: true,
    asciiSafeEncoding: true,
    readTransactions: pgsteer.readTransactions,
  })
  const sentence = REASONS.find(([word]) => word === route.reason)?.[1] ?? ''
  const named =
    classified.functions.length === 0 ? '' : ` Functions: ${classified.functions.join(', ')}.`
  return [
    {
      route: route.role,
      reason: route.reason,
      members: membersFor(route.role, topology),
      detail: `${sentence}${named}`,
    },
  ]
}

function membersFor(role: 'primary' | 'replica' | 'any', topology: Topology): string[] {
  const primaries = topology.primary === null ? [] : [topology.primary]
  const replicas = topology.members
    .filter((member) => member.eligible && member.name !== topology.primary)
    .map((member) => member.name)
  if (role === 'primary') return primaries
  if (role === 'replica') return replicas.length > 0 ? replicas : primaries
  return [...primaries, ...replicas]
}
