/**
 * A job that runs as a service does: its image, user, volumes, secrets, configs, environment, networks,
 * placement and memory, with another command. For work on a member's or on the repository's volume.
 */
import { type Docker } from './docker.ts'
import type { Job } from './job.ts'
import { arrayOf, pick, textOf } from './json.ts'
import { serviceName } from './names.ts'
import type { Settings } from './settings.ts'

/** What of a job the service gives. Errors: OperatorError when the service is not there. */
export async function likeService(
  docker: Docker,
  { cluster }: Settings,
  service: string,
): Promise<{ options: readonly string[]; image: NonNullable<Job['image']> }> {
  const [found] = await docker.inspect(['service', 'inspect', serviceName(cluster, service)])
  const task = pick(found, 'Spec', 'TaskTemplate')
  const container = pick(task, 'ContainerSpec')
  const of = (key: string): unknown[] => arrayOf(pick(container, key))
  const memory = Number(pick(task, 'Resources', 'Limits', 'MemoryBytes') ?? 0)
  const user = textOf(pick(container, 'User'))
  return {
    image: textOf(pick(container, 'Image')),
    options: [
      ...of('Mounts').flatMap(mountOf),
      ...of('Secrets').flatMap((use) => fileOf('--secret', use, 'SecretName')),
      ...of('Configs').flatMap((use) => fileOf('--config', use, 'ConfigName')),
      ...of('Env').flatMap((entry) => ['--env', textOf(entry)]),
      ...arrayOf(pick(task, 'Networks')).flatMap((network) => [
        '--network',
        textOf(pick(network, 'Target')),
      ]),
      ...arrayOf(pick(task, 'Placement', 'Constraints')).flatMap((text) => [
        '--constraint',
        textOf(text),
      ]),
      ...of('CapabilityDrop').flatMap((name) => ['--cap-drop', textOf(name)]),
      ...(pick(container, 'ReadOnly') === true ? ['--read-only'] : []),
      ...(user === '' ? [] : ['--user', user]),
      ...(memory > 0 ? ['--limit-memory', String(memory)] : []),
    ],
  }
}

function mountOf(mount: unknown): string[] {
  const [type = '', source = '', target = ''] = ['Type', 'Source', 'Target'].map((key) =>
    textOf(pick(mount, key)),
  )
  const size = Number(pick(mount, 'TmpfsOptions', 'SizeBytes') ?? 0)
  const words = [
    `type=${type}`,
    ...(source === '' ? [] : [`source=${source}`]),
    `target=${target}`,
    ...(size > 0 ? [`tmpfs-size=${size}`] : []),
    ...(pick(mount, 'ReadOnly') === true ? ['readonly'] : []),
  ]
  return ['--mount', words.join(',')]
}

function fileOf(option: string, use: unknown, name: string): string[] {
  const of = (key: string): string => textOf(pick(use, 'File', key))
  const mode = Number(pick(use, 'File', 'Mode') ?? 0).toString(8)
  const source = textOf(pick(use, name))
  return [
    option,
    `source=${source},target=${of('Name')},uid=${of('UID')},gid=${of('GID')},mode=0${mode}`,
  ]
}
