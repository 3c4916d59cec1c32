/**
 * Volumes of members, which Docker knows on their nodes only: removed by a job on the node, that speaks with
 * the node's own Docker.
 */
import type { Context } from './context.ts'
import { type JobResult, Jobs } from './job.ts'
import { isRecord, pick } from './json.ts'
import { STACKS, type Stack, stackName } from './names.ts'
import { readNodes } from './nodes.ts'
import { OperatorError } from './operator.ts'
import type { Settings } from './settings.ts'
import { readYaml } from './yaml.ts'

const DEADLINE_MS = 180_000
const SOCKET = '/var/run/docker.sock'
/**
 * Containers of a removed service keep its volume for some seconds, and those of jobs that ended for as long as
 * Docker remembers them: they are removed, which Docker refuses for one that runs.
 */
const REMOVE = `
for volume in "$@"; do
  for attempt in 1 2 3 4 5 6 7 8 9 10; do
    code=$(curl --silent --output /tmp/said --write-out '%{http_code}' --unix-socket ${SOCKET} --request DELETE "http://docker/volumes/$volume")
    case $code in 204|404) break ;; esac
    for container in $(grep -o '[0-9a-f]\\{64\\}' /tmp/said); do
      curl --silent --output /dev/null --unix-socket ${SOCKET} --request DELETE "http://docker/containers/$container"
    done
    sleep 3
  done
  case $code in
    204) echo "removed $volume" ;;
    404) ;;
    *) echo "cannot remove $volume ($code): $(cat /tmp/said)"; failed=1 ;;
  esac
done
exit \${failed:-0}`

const PRESENT = 'present: '
const FIND = `
for volume in "$@"; do
  code=$(curl --silent --output /dev/null --write-out '%{http_code}' --unix-socket ${SOCKET} "http://docker/volumes/$volume")
  case $code in
    200) echo "${PRESENT}$volume" ;;
    404) ;;
    *) echo "Docker does not say whether there is $volume ($code)"; failed=1 ;;
  esac
done
exit \${failed:-0}`

/** All volumes of the cluster's stacks, by the names they have on the nodes. */
export function volumesOf({ folder }: Context, { cluster }: Settings): string[] {
  return STACKS.flatMap((stack: Stack) => {
    const text = folder.read('rendered', `${stack}.yml`)
    const volumes = text === undefined ? undefined : pick(readYaml(text), 'volumes')
    return Object.keys(isRecord(volumes) ? volumes : {}).map(
      (name) => `${stackName(cluster, stack)}_${name}`,
    )
  })
}

/** Those of `volumes` that are on the node of this id. Errors: OperatorError when its Docker cannot be asked. */
export async function presentVolumes(
  context: Context,
  settings: Settings,
  { volumes, node }: { volumes: readonly string[]; node: string },
): Promise<string[]> {
  const { isOk, output } = await onNodes(context, settings, {
    script: FIND,
    volumes,
    node,
    isReadOnly: true,
  })
  if (!isOk)
    throw new OperatorError(
      `the node could not be asked for its volumes: ${output.trim()}`,
      "DOCKER_SOCKET in cluster.env says where every node's Docker listens.",
    )
  const lines = output.split('\n')
  return volumes.filter((volume) => lines.includes(`${PRESENT}${volume}`))
}

/**
 * On every node, or on the one of this name. Answers the names of nodes that are down, and keep theirs. Errors:
 * OperatorError with what a node's Docker said.
 */
export async function removeVolumes(
  context: Context,
  settings: Settings,
  { volumes, node }: { volumes: readonly string[]; node?: string },
): Promise<string[]> {
  const nodes = await readNodes(context.docker)
  const meant = nodes.filter(
    ({ id, hostname }) => node === undefined || id === node || hostname === node,
  )
  const down = meant.filter(({ isReady }) => !isReady).map(({ hostname }) => hostname)
  for (const hostname of down)
    context.output.warn(
      `${hostname} is down and keeps its volumes: when it is back, before anything is deployed there: docker volume rm ${volumes.join(' ')}`,
    )
  if (meant.length === down.length) return down
  context.output.step(`removing volumes: ${volumes.join(', ')}`)
  const [only] = meant
  const { isOk, output } = await onNodes(context, settings, {
    script: REMOVE,
    volumes,
    node: node === undefined ? undefined : only?.id,
    isReadOnly: false,
  })
  for (const line of output.split('\n').filter((text) => text !== '')) context.output.step(line)
  if (isOk) return down
  throw new OperatorError(
    'not every volume could be removed',
    'Remove those named above on their nodes: docker volume rm NAME.',
  )
}

async function onNodes(
  context: Context,
  settings: Settings,
  {
    script,
    volumes,
    node,
    isReadOnly,
  }: { script: string; volumes: readonly string[]; node: string | undefined; isReadOnly: boolean },
): Promise<JobResult> {
  const socket = settings.env['DOCKER_SOCKET'] ?? ''
  return await new Jobs(context).run(settings, {
    what: 'volumes',
    command: ['sh', '-c', script, 'volumes', ...volumes],
    options: [
      '--user',
      '0',
      '--mount',
      `type=bind,source=${socket},target=${SOCKET}`,
      ...(node === undefined ? [] : ['--constraint', `node.id==${node}`]),
    ],
    isGlobal: true,
    isReadOnly,
    deadlineMs: DEADLINE_MS,
  })
}
