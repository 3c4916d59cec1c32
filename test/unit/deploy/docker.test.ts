import { expect, test } from 'vitest'
import { Docker } from '../../../src/deploy/docker.ts'
import { OperatorError } from '../../../src/deploy/operator.ts'

const output = { print: () => undefined, step: () => undefined, warn: () => undefined }

function answering(code: number, stdout: string, stderr: string): Docker {
  return new Docker({ run: async () => ({ code, stdout, stderr }), isDryRun: false, output })
}

test('a task that Docker has forgotten since it named it is gone, and the others are there', async () => {
  const docker = answering(1, '[{"ID":"a"}]', 'Error response from daemon: task b not found')
  expect(await docker.tasks(['a', 'b'])).toEqual([{ ID: 'a' }])
})

test('tasks that cannot be asked for are an error', async () => {
  const docker = answering(1, '', 'Cannot connect to the Docker daemon')
  await expect(docker.tasks(['a'])).rejects.toThrow(OperatorError)
})

test('the logs of a service are those of both its streams', async () => {
  const docker = answering(0, 'it begins\n', 'it fails\n')
  expect(await docker.logs('main_job')).toBe('it begins\nit fails\n')
})
