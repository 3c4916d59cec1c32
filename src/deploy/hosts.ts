/**
 * What only a node itself knows: its kernel, its clock, its ports, its resolver, its free disk. Asked by two
 * jobs on every node, one in the host's network and one in a network of its own. What is found is a
 * warning: an operator may know better.
 */
import type { Context } from './context.ts'
import { Jobs } from './job.ts'
import { isRecord, pick, textOf } from './json.ts'
import type { SwarmNode } from './nodes.ts'
import type { Settings } from './settings.ts'

const DEADLINE_MS = 180_000
const FREE_BYTES_MIN = 10_737_418_240
const GIB = 1_073_741_824

interface Report {
  readonly node: string
  readonly kernel: string
  readonly hasEsp: boolean
  readonly hasNdots: boolean
  readonly isClockKept: boolean
  readonly freeBytes: number
  readonly ports: readonly number[]
}

export async function checkHosts(
  context: Context,
  settings: Settings,
  nodes: readonly SwarmNode[],
): Promise<void> {
  const { output } = context
  output.step('asking every node for its kernel, clock, ports and resolver')
  const port = Number(settings.env['PGSTEER_PORT'])
  const isRunning = (await context.docker.lines(['stack', 'ls', '--format', '{{.Name}}'])).includes(
    settings.cluster,
  )
  const inside = await ask(context, settings, 'check', ['--cap-add', 'NET_ADMIN', '--user', '0'])
  const outside = await ask(context, settings, 'ports', ['--network', 'host'])
  for (const text of problems(inside, outside, { settings, port: isRunning ? 0 : port }))
    output.warn(text)
  const silent = nodes.filter(({ id }) => !inside.some(({ node }) => node === id))
  if (silent.length > 0)
    output.warn(`no answer from ${silent.map(({ hostname }) => hostname).join(', ')}`)
  for (const { node, kernel } of inside)
    output.step(`${nodes.find(({ id }) => id === node)?.hostname ?? node}: Linux ${kernel}`)
}

async function ask(
  context: Context,
  settings: Settings,
  what: string,
  options: readonly string[],
): Promise<Report[]> {
  const { output } = await new Jobs(context).run(settings, {
    what,
    command: ['facts', 'node'],
    options: [...options, '--env', 'NODE_ID={{.Node.ID}}'],
    isGlobal: true,
    isReadOnly: true,
    deadlineMs: DEADLINE_MS,
  })
  return output.split('\n').flatMap(reportOf)
}

function reportOf(line: string): Report[] {
  if (!line.startsWith('{')) return []
  const value: unknown = JSON.parse(line)
  const ports = pick(value, 'ports')
  if (!isRecord(value)) return []
  return [
    {
      node: textOf(value['node']),
      kernel: textOf(value['kernel']),
      // Not known is no reason to warn.
      hasEsp: value['esp'] !== false,
      hasNdots: value['ndots'] === true,
      isClockKept: value['clock'] !== false,
      freeBytes: Number(value['free_bytes']),
      ports: Array.isArray(ports) ? ports.map(Number) : [],
    },
  ]
}

function problems(
  inside: readonly Report[],
  outside: readonly Report[],
  { settings, port }: { settings: Settings; port: number },
): string[] {
  const found: string[] = []
  const count = (reports: readonly Report[]): string =>
    `${reports.length} of ${inside.length} nodes`
  const withoutEsp = inside.filter(({ hasEsp }) => !hasEsp)
  if (settings.env['ENCRYPTED'] === 'true' && withoutEsp.length > 0)
    found.push(
      `${count(withoutEsp)} cannot encrypt overlay networks (no ESP in the kernel): load the module esp4, or set ENCRYPTED=false; TLS protects what matters in either case`,
    )
  const withoutNdots = inside.filter(({ hasNdots }) => !hasNdots)
  if (withoutNdots.length > 0)
    found.push(
      `${count(withoutNdots)} ask the outer DNS for the cluster's own names: put "dns-opts": ["ndots:1"] into /etc/docker/daemon.json, else a failover may wait for that DNS`,
    )
  const adrift = inside.filter(({ isClockKept }) => !isClockKept)
  if (adrift.length > 0)
    found.push(`${count(adrift)} say that nobody keeps their clock: run chrony on them`)
  const full = inside.filter(({ freeBytes }) => freeBytes < FREE_BYTES_MIN)
  if (full.length > 0)
    found.push(`${count(full)} have less than ${FREE_BYTES_MIN / GIB} GiB of free disk for Docker`)
  const taken = outside.filter(({ ports }) => ports.includes(port))
  if (taken.length > 0)
    found.push(`port ${port} is in use on ${count(taken)}: choose another PGSTEER_PORT, or free it`)
  return found
}
