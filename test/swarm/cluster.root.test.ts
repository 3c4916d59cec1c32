/**
 * The whole deployment on a real Swarm of three nodes, in the order of an operator's life: made by
 * `deploy/cluster` as docs/deploy.md says, used by applications through every node, bereft of the
 * primary's node under load, and taken down. Each test goes on from the one before.
 */
import { afterAll, afterEach, beforeAll, beforeEach, test } from 'vitest'
import { Scene } from './scene.ts'

const scene = new Scene()
beforeAll(() => scene.begin())
beforeEach(({ onTestFailed, task }) => {
  onTestFailed(() => scene.tell(task))
})
afterEach(() => scene.clear())
afterAll(() => scene.end())

test('deploy/cluster init and up make a cluster out of three bare nodes', async () => {
  await scene.deploy()
})

test('psql reaches it through every node, by its name, over TLS and in no other way', async () => {
  await scene.connectEverywhere()
})

test('writes go to the primary and reads to both replicas, whichever node a client is at', async () => {
  await scene.addApplication()
  await scene.routeEverywhere()
})

test('a switchover under load costs no statement', async () => {
  await scene.switchover()
})

test('the primary’s node loses its power under load: nothing acknowledged is lost, and it comes back', async () => {
  await scene.losePower()
})

test('deploy/cluster down leaves the data alone, and nothing at all when that is asked for', async () => {
  await scene.down()
})
