/** Patroni's configuration that is shipped, judged by Debian 13's Patroni 4.0, which knows all of its keys. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { debian13 } from '../support/patroni.ts'
import { MemberConfiguration, ROLES } from '../support/patroni-config.ts'

let member: MemberConfiguration
beforeAll(async () => {
  member = await MemberConfiguration.prepare(debian13())
})
afterAll(() => member?.stop())

const wrong = (base: string): string =>
  base.replace(/\bloop_wait: \d+/, 'loop_wait: 0').replace('pg_hba:', 'hba:')

test('Patroni 4 accepts base.yml with its secrets', async () => {
  expect(await member.complaints(member.write((base) => base))).toEqual([])
})

test('Patroni 4 complains of what is wrong in it', async () => {
  const lines = await member.complaints(member.write(wrong))
  expect(lines).toEqual(
    expect.arrayContaining([expect.stringMatching(/^bootstrap\.dcs\.loop_wait 0 /)]),
  )
})

test('each role keeps its own name when the secret is merged', async () => {
  expect(await member.roles(member.write((base) => base))).toMatchObject(ROLES)
})
