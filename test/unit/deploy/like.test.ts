import { expect, test } from 'vitest'
import { Docker } from '../../../src/deploy/docker.ts'
import { likeService } from '../../../src/deploy/like.ts'
import { terminal } from '../../../src/deploy/operator.ts'
import type { Settings } from '../../../src/deploy/settings.ts'

/** A member as `docker service inspect` shows it. */
const TEMPLATE = {
  ContainerSpec: {
    Image: '127.0.0.1:1/node:test',
    Env: ['CLUSTER=main', 'DB_SUBNET=10.77.2.0/24'],
    ReadOnly: true,
    CapabilityDrop: ['ALL'],
    Mounts: [
      { Type: 'volume', Source: 'main_pg1', Target: '/var/lib/postgresql' },
      { Type: 'tmpfs', Target: '/dev/shm', TmpfsOptions: { SizeBytes: 1_073_741_824 } },
    ],
    Secrets: [
      {
        File: { Name: 'node.key', UID: '999', GID: '999', Mode: 0o400 },
        SecretName: 'main_patroni1_key_1',
      },
    ],
    Configs: [
      {
        File: { Name: '/etc/patroni/conf.d/10-base.yml', UID: '0', GID: '0', Mode: 0o444 },
        ConfigName: 'main_patroni_base_abc',
      },
    ],
  },
  Resources: { Limits: { MemoryBytes: 536_870_912 } },
  Placement: { Constraints: ['node.labels.pg.slot == 1'] },
  Networks: [{ Target: 'net1', Aliases: ['patroni1'] }],
}

/** Asks a docker that knows that one service. */
function like(template: unknown) {
  const inspected = JSON.stringify([{ Spec: { TaskTemplate: template } }])
  const run = (args: readonly string[]) =>
    Promise.resolve({
      code: 0,
      stdout: args.includes('main_patroni1') ? inspected : '[]',
      stderr: '',
    })
  const docker = new Docker({ run, isDryRun: false, output: terminal })
  return likeService(docker, { cluster: 'main' } as Settings, 'patroni1')
}

test("a job gets a service's volumes, secrets, configs, networks, place and memory", async () => {
  const { image, options } = await like(TEMPLATE)
  expect(image).toBe('127.0.0.1:1/node:test')
  const pairs = [
    ['--mount', 'type=volume,source=main_pg1,target=/var/lib/postgresql'],
    ['--mount', 'type=tmpfs,target=/dev/shm,tmpfs-size=1073741824'],
    ['--secret', 'source=main_patroni1_key_1,target=node.key,uid=999,gid=999,mode=0400'],
    [
      '--config',
      'source=main_patroni_base_abc,target=/etc/patroni/conf.d/10-base.yml,uid=0,gid=0,mode=0444',
    ],
    ['--env', 'CLUSTER=main'],
    ['--network', 'net1'],
    ['--constraint', 'node.labels.pg.slot == 1'],
    ['--cap-drop', 'ALL'],
    ['--limit-memory', '536870912'],
  ]
  for (const pair of pairs) expect(options.join('\n')).toContain(pair.join('\n'))
  expect(options).toContain('--read-only')
})

test('what a service does not have is not asked for', async () => {
  expect(await like({ ContainerSpec: { Image: 'node:1' } })).toEqual({
    image: 'node:1',
    options: [],
  })
})
