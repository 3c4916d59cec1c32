/** A server that takes its time stops its client: what was sent ahead is not piled up in between. */
import { expect, test } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const shared = useCluster({ replicas: 0 })
const front = useSteer(shared)
const ROW = frontend.copyData(`1\t${'x'.repeat(60_000)}\n`)
const ROWS = 4000
const MEGABYTE = 1024 * 1024

test('COPY of 240 MB into a table that is written slowly holds little of it in memory', async () => {
  const client = await front.steer.wire({ withinMs: 50_000 })
  await client.query(
    `CREATE TABLE slow (a int, b text);
     CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$;
     CREATE TRIGGER wait BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION wait()`,
  )
  const before = front.steer.workerRssBytes
  client.send(frontend.query('COPY slow FROM STDIN'))
  await client.until('G')
  for (let row = 0; row < ROWS; row += 1) client.socket.write(ROW)
  let last = -1
  await waitFor(
    'nobody takes any more',
    () => {
      const left = client.socket.writableLength
      const isStill = left === last
      last = left
      return isStill
    },
    { withinMs: 20_000, everyMs: 300 },
  )
  // Most of it is still with the client.
  expect(last).toBeGreaterThan((ROWS * ROW.length) / 2)
  expect(front.steer.workerRssBytes - before).toBeLessThan(64 * MEGABYTE)
  client.destroy()
  const other = await front.steer.wire()
  expect((await other.query('SELECT 1')).rows).toEqual([['1']])
  await other.close()
})
