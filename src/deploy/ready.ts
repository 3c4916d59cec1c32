/**
 * Waiting for a cluster that is well, and telling meanwhile what it lacks and which tasks fail with what.
 */
import { wait } from '../base/clock.ts'
import type { Context } from './context.ts'
import { waitUntilWell } from './facts.ts'
import { stackName } from './names.ts'
import type { SwarmNode } from './nodes.ts'
import type { Settings } from './settings.ts'

const WATCH_MS = 3000
const TASK_PROBLEM = /^(Rejected|Failed|Pending)/

/**
 * Until etcd, a leader, streaming replicas and every pgsteer are there; what tasks fail with is told meanwhile.
 * `without`: members of either kind that are not looked at.
 */
export async function waitForCluster(
  context: Context,
  settings: Settings,
  {
    nodes,
    seconds,
    without = [],
  }: { nodes: readonly SwarmNode[]; seconds: number; without?: readonly string[] },
): Promise<void> {
  const tasks = nodes.filter(
    ({ isReady, isActive, labels }) => isReady && isActive && labels['pgsteer'] !== 'false',
  ).length
  const watch = { isOver: context.docker.isDryRun }
  const watching = watchTasks(context, settings, watch)
  try {
    await waitUntilWell(context, settings, { seconds, tasks, without })
  } finally {
    watch.isOver = true
    await watching
  }
}

async function watchTasks(
  { docker, clock, output }: Context,
  { cluster }: Settings,
  watch: { isOver: boolean },
): Promise<void> {
  const told = new Set<string>()
  while (!watch.isOver) {
    await wait(clock, WATCH_MS)
    const found = await docker.find([
      'stack',
      'ps',
      stackName(cluster, 'stack'),
      '--no-trunc',
      '--format',
      '{{.Name}}\t{{.Node}}\t{{.CurrentState}}\t{{.Error}}',
    ])
    for (const line of (found ?? '').split('\n')) {
      const [name = '', node = '', state = '', error = ''] = line.split('\t')
      const text = `${name}${node === '' ? '' : ` on ${node}`}: ${error}`
      if (error === '' || !TASK_PROBLEM.test(state) || told.has(text)) continue
      told.add(text)
      output.warn(text)
    }
  }
}
