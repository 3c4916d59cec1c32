/**
 * What is made once and never again: passwords that PostgreSQL has, the passphrase of the backups, the
 * authority. A folder that has lost them is refused.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { FakeSwarm, removeFolders } from './swarm.ts'

afterAll(removeFolders)

const IMAGES = ['--set', 'NODE_IMAGE=node:1', '--set', 'PGSTEER_IMAGE=pgsteer:1']

async function deployed(): Promise<FakeSwarm> {
  const swarm = new FakeSwarm()
  expect(await swarm.cluster('init', 'main', ...IMAGES)).toBe(0)
  expect(await swarm.cluster('up')).toBe(0)
  return swarm
}

const path = (swarm: FakeSwarm, ...names: readonly string[]): string =>
  join(swarm.folder, 'cluster', ...names)

function setEpoch(swarm: FakeSwarm, epoch: number): void {
  const file = path(swarm, 'cluster.env')
  writeFileSync(file, readFileSync(file, 'utf8').replace(/AUTH_EPOCH=\d+/, `AUTH_EPOCH=${epoch}`))
}

test('an epoch of passwords takes those of the newest one before, however far that is', async () => {
  const swarm = await deployed()
  setEpoch(swarm, 3)
  expect(await swarm.cluster('up'), swarm.text).toBe(0)
  for (const name of ['patroni_auth', 'pgsteer_password', 'pgsteer_userlist', 'metrics_password'])
    expect(swarm.secrets.get(`main_${name}_3`)?.text).toBe(swarm.file('secrets', '1', name))
})

test("another password of a role is refused, since PostgreSQL has the earlier one; a token's is not", async () => {
  const swarm = await deployed()
  setEpoch(swarm, 2)
  expect(await swarm.cluster('up', '--dry-run')).toBe(0)
  expect(await swarm.cluster('init')).toBe(0)
  writeFileSync(path(swarm, 'secrets/2/pgsteer_password'), 'another')
  expect(await swarm.cluster('up')).toBe(1)
  expect(swarm.text).toContain('PostgreSQL still has that one')
  expect(swarm.changes).toEqual([])
  rmSync(path(swarm, 'secrets/2/pgsteer_password'))
  setEpoch(swarm, 4)
  expect(await swarm.cluster('up')).toBe(0)
  setEpoch(swarm, 5)
  writeFileSync(path(swarm, 'secrets/4/pgsteer_token'), 'another')
  expect(await swarm.cluster('up')).toBe(0)
  expect(swarm.secrets.get('main_pgsteer_token_5')?.text).toBe('another')
})

test('a folder without its passwords, or without its authority, is refused while the cluster has them', async () => {
  for (const lost of ['secrets/1', 'ca']) {
    const swarm = await deployed()
    rmSync(path(swarm, lost), { recursive: true })
    expect(await swarm.cluster('up')).toBe(1)
    expect(swarm.text).toMatch(/is missing, and the cluster in Docker was made with one/)
    expect(swarm.changes).toEqual([])
  }
})

test('the passphrase of the backups is never made anew, and Docker keeps the secret that has it', async () => {
  const swarm = await deployed()
  const before = swarm.secrets.get('main_pgbackrest_secrets_1')?.text ?? ''
  const file = path(swarm, 'secrets/backup_passphrase_1')
  renameSync(file, `${file}.kept`)
  for (const epoch of [1, 2]) {
    setEpoch(swarm, epoch)
    expect(await swarm.cluster('up')).toBe(1)
    expect(swarm.text).toContain('backup_passphrase_1 is missing')
    expect(swarm.text).toContain('repo1-cipher-pass')
    expect(swarm.changes).toEqual([])
  }
  writeFileSync(file, 'another\n')
  expect(await swarm.cluster('up')).toBe(1)
  expect(swarm.text).toContain('not the one that backups were made with')
  renameSync(`${file}.kept`, file)
  expect(await swarm.cluster('up')).toBe(0)
  expect(swarm.secrets.get('main_pgbackrest_secrets_1')?.text).toBe(before)
  expect(swarm.secrets.get('main_pgbackrest_secrets_2')?.text).toBe(before)
  expect(swarm.secrets.has('main_pgsteer_token_1')).toBe(false)
})

test('no password is made that nothing reads', async () => {
  const swarm = await deployed()
  expect(swarm.secrets.has('main_superuser_password_1')).toBe(false)
})
