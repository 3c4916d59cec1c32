import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { reasonIn } from '../../../src/deploy/backup.ts'
import { Folder } from '../../../src/deploy/folder.ts'
import { OperatorError } from '../../../src/deploy/operator.ts'
import { repositorySecrets } from '../../../src/deploy/repository.ts'
import { parseSettings, settingsText } from '../../../src/deploy/settings.ts'
import { VALUES } from './values.ts'

const root = mkdtempSync(join(tmpdir(), 'pgsteer-repository-'))
afterAll(() => {
  rmSync(root, { recursive: true })
})
let count = 0
const folder = (): Folder => new Folder(join(root, String((count += 1))), false)
const settings = (more: Record<string, string> = {}) =>
  parseSettings(
    settingsText({ ...VALUES, ...more }),
    new Set(['BACKUP_REPOSITORIES']),
    'cluster.env',
  )
const S3 = {
  BACKUP_REPOSITORIES: '2',
  BACKUP_REPO2_TYPE: 's3',
  BACKUP_REPO2_S3_BUCKET: 'backups',
  BACKUP_REPO2_RETENTION_FULL: '8',
}

test('without a setting there is one encrypted repository on the volume', () => {
  const text = repositorySecrets(folder(), settings())
  expect(text).toMatch(
    /^\[global\]\nrepo1-path=\/var\/lib\/pgbackrest\/repo1\nrepo1-cipher-type=aes-256-cbc\n/,
  )
  expect(text).toMatch(/^repo1-cipher-pass=[\w-]{64}$/m)
  expect(text).not.toContain('repo2')
})

test('the passphrase stays: with another one no earlier backup can be read', () => {
  const kept = folder()
  const text = repositorySecrets(kept, settings())
  expect(repositorySecrets(kept, settings({ AUTH_EPOCH: '2' }))).toBe(text)
  expect(repositorySecrets(folder(), settings())).not.toBe(text)
})

test('no passphrase is made for a repository that is deployed: the folder is an old copy', () => {
  const old = folder()
  old.write(
    'services: {pgbackrest: {environment: {\n BACKUP_REPOSITORIES: "1"}}}',
    'deployed',
    'stack.yml',
  )
  expect(() => repositorySecrets(old, settings())).toThrow(/backup_passphrase_1 is missing/)
  expect(old.list('secrets')).toEqual([])
})

test('a second repository comes from settings, its keys from files of their own', () => {
  const withKeys = folder()
  withKeys.write('AKIA\n', 'secrets', 'backup_repo2_s3_key')
  withKeys.write('very-secret\n', 'secrets', 'backup_repo2_s3_key_secret')
  const lines = repositorySecrets(withKeys, settings(S3)).split('\n')
  expect(lines).toEqual(
    expect.arrayContaining([
      'repo2-type=s3',
      'repo2-path=/main',
      'repo2-s3-bucket=backups',
      'repo2-s3-key=AKIA',
      'repo2-s3-key-secret=very-secret',
      'repo2-retention-full=8',
      'repo2-cipher-type=aes-256-cbc',
    ]),
  )
  const passphrases = lines.filter((line) => line.includes('cipher-pass'))
  expect(new Set(passphrases.map((line) => line.split('=')[1])).size).toBe(2)
})

test('a key that is missing is asked for by the name of its file', () => {
  expect(() => repositorySecrets(folder(), settings(S3))).toThrow(/backup_repo2_s3_key is missing/)
})

test('a setting of a repository that is not counted is refused', () => {
  const uncounted = settings({ ...S3, BACKUP_REPOSITORIES: '1' })
  expect(() => repositorySecrets(folder(), uncounted)).toThrow(OperatorError)
})

test('of what a job said, the line that says why is told', () => {
  expect(reasonIn('a\nP00  ERROR: [064]: unable to write\nP00   INFO: end\n')).toBe(
    'P00  ERROR: [064]: unable to write',
  )
  expect(reasonIn('restore: there is no backup to restore\n')).toBe(
    'restore: there is no backup to restore',
  )
  expect(reasonIn('one\ntwo\n')).toBe('two')
})
