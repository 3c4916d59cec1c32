/**
 * `apply-config`: Patroni's dynamic configuration, which lives in etcd, made what a file says. Without the
 * operator's yes it is only said what would change. Only what differs is sent; what the file does not name
 * stays as it is.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { call } from './api.ts'
import { type Context, settingsOf } from './context.ts'
import { leaderOf, readFacts } from './facts.ts'
import { isRecord, pick } from './json.ts'
import { OperatorError } from './operator.ts'
import { readYaml } from './yaml.ts'

type Tree = Readonly<Record<string, unknown>>

/** One value that differs. */
export interface Difference {
  readonly path: readonly string[]
  readonly from: unknown
  /** Null takes the key away. */
  readonly to: unknown
}

/** `file` is YAML: the dynamic configuration itself, or a Patroni file with it below bootstrap.dcs. */
export async function applyConfig(
  context: Context,
  { file, isConfirmed }: { file: string | undefined; isConfirmed: boolean },
): Promise<void> {
  const settings = settingsOf(context)
  const wanted = readWanted(file ?? join(context.deploy, 'patroni/base.yml'))
  const facts = await readFacts(context, settings)
  if (facts.config === undefined)
    throw new OperatorError(
      'no member says what is configured now',
      'See `status`: one of them has to run.',
    )
  const found = differences(facts.config, wanted)
  if (found.length === 0) {
    context.output.step('nothing to do: everything is configured so')
    return
  }
  for (const { path, from, to } of found)
    context.output.print(`${path.join('.')}: ${shown(from)} -> ${shown(to)}`)
  if (file === undefined)
    context.output.warn(
      'what was changed by hand or by a file of yours goes back to deploy/patroni/base.yml: apply a file with your own values to keep them',
    )
  if (!isConfirmed) {
    context.output.step('Nothing was changed. With --yes this is applied.')
    return
  }
  const member =
    leaderOf(facts)?.name ?? facts.members.find(({ error }) => error === '')?.name ?? 'patroni1'
  const { status, body } = await call(context, settings, {
    method: 'PATCH',
    url: `https://${member}:8008/config`,
    body: patchOf(found),
    isReadOnly: false,
  })
  if (status !== 200)
    throw new OperatorError(
      `Patroni refused: ${body.trim()} (${status})`,
      'Correct the value it names, and run the command again.',
    )
  if (context.docker.isDryRun) return
  context.output.step(
    'applied; members take it over within seconds. What needs a restart of PostgreSQL is marked `pending restart` in Patroni: restart replicas first, then switch over.',
  )
}

function readWanted(file: string): Tree {
  let value: unknown
  try {
    value = readYaml(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new OperatorError(
      `${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      'Name a YAML file.',
      error,
    )
  }
  const inner = pick(value, 'bootstrap', 'dcs') ?? value
  if (isRecord(inner)) return inner
  throw new OperatorError(
    `${file} is no configuration`,
    'It has to be a map, as below bootstrap.dcs of deploy/patroni/base.yml.',
  )
}

/** Where `present` is not what `wanted` says, leaf by leaf. */
export function differences(
  present: Tree,
  wanted: Tree,
  above: readonly string[] = [],
): Difference[] {
  return Object.entries(wanted).flatMap(([key, to]) => {
    const from = present[key]
    const path = [...above, key]
    if (isRecord(to)) return differences(isRecord(from) ? from : {}, to, path)
    const isSame = JSON.stringify(from ?? null) === JSON.stringify(to)
    return isSame ? [] : [{ path, from, to }]
  })
}

/** The differences as the nested value that PATCH merges. */
export function patchOf(found: readonly Difference[]): Tree {
  const patch: Record<string, unknown> = {}
  for (const { path, to } of found) {
    let inner = patch
    for (const key of path.slice(0, -1)) {
      const next = inner[key]
      const made: Record<string, unknown> = isRecord(next) ? next : {}
      inner[key] = made
      inner = made
    }
    inner[path.at(-1) ?? ''] = to
  }
  return patch
}

function shown(value: unknown): string {
  if (value === undefined || value === null) return '(none)'
  return typeof value === 'string' ? value : JSON.stringify(value)
}
