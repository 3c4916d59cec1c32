/**
 * Volumes of members, which Docker knows on their nodes only: removed by a job on the node, that speaks with
 * the node's own Docker.
 */
import type { Context } from './context.ts'
import { isRecord, pick } from './docker.ts'
import { Jobs } from './job.ts'
import { STACKS, type Stack, stackName } from './names.ts'
import { OperatorError } from './operator.ts'
import type { Settings } from './settings.ts'
import { readYaml } from './yaml.ts'

const DEADLINE_MS = 180_000
const SOCKET = '/var/run/docker.sock'
/** Containers of a removed service keep its volume for some seconds. */
const REMOVE = `
for volume in "$@"; do
  for attempt in 1 2 3 4 5 6 7 8 9 10; do
    code=$(curl --silent --output /tmp/said --write-out '%{http_code}' --unix-socket ${SOCKET} --request DELETE "http://docker/volumes/$volume")
    case $code in 204|404) break ;; esac
    sleep 3
  done
  case $code in
    204) echo "removed $volume" ;;
    404) ;;
    *) echo "cannot remove $volume ($code): $(cat /tmp/said)"; failed=1 ;;
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

/** On every node, or on the one of this id. Errors: OperatorError with what a node's Docker said. */
export async function removeVolumes(
  context: Context,
  settings: Settings,
  { volumes, node }: { volumes: readonly string[]; node?: string },
): Promise<void> {
  context.output.step(`removing volumes: ${volumes.join(', ')}`)
  const socket = settings.env['DOCKER_SOCKET'] ?? ''
  const { isOk, output } = await new Jobs(context).run(settings, {
    what: 'volumes',
    command: ['sh', '-c', REMOVE, 'remove', ...volumes],
    options: [
      '--user',
      '0',
      '--mount',
      `type=bind,source=${socket},target=${SOCKET}`,
      ...(node === undefined ? [] : ['--constraint', `node.id==${node}`]),
    ],
    isGlobal: true,
    isReadOnly: false,
    deadlineMs: DEADLINE_MS,
  })
  for (const line of output.split('\n').filter((text) => text !== '')) context.output.step(line)
  if (!isOk)
    throw new OperatorError(
      'not every volume could be removed',
      'Remove those named above on their nodes: docker volume rm NAME.',
    )
}
