import { createPublicKey, X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { makeAuthority } from '../../../src/deploy/certificates.ts'
import type { Context } from '../../../src/deploy/context.ts'
import { settingsOf } from '../../../src/deploy/context.ts'
import { Docker } from '../../../src/deploy/docker.ts'
import { Folder } from '../../../src/deploy/folder.ts'
import { rotateCertificates } from '../../../src/deploy/rotation.ts'
import { settingsText } from '../../../src/deploy/settings.ts'
import { VALUES } from './values.ts'

const up = vi.hoisted(() => ({ run: (context: Context): void => void context }))
vi.mock('../../../src/deploy/up.ts', () => ({
  up: (context: Context) => {
    up.run(context)
    return Promise.resolve()
  },
}))

const root = mkdtempSync(join(tmpdir(), 'pgsteer-rotation-'))
afterAll(() => {
  rmSync(root, { recursive: true })
})

/** Dies instead of doing something for the n-th time. */
class Fuse {
  left: number
  count = 0

  constructor(left: number) {
    this.left = left
  }

  burn(): void {
    this.count += 1
    this.left -= 1
    if (this.left === 0) throw new Error('killed')
  }
}

class DyingFolder extends Folder {
  fuse = new Fuse(0)

  override write(text: string, ...names: readonly string[]): string {
    this.fuse.burn()
    return super.write(text, ...names)
  }

  override remove(...names: readonly string[]): void {
    this.fuse.burn()
    super.remove(...names)
  }
}

const SETTINGS = settingsText(VALUES)
const silent = { step: () => undefined, warn: () => undefined, print: () => undefined }
const [first, old] = await Promise.all([makeAuthority('main', 0), makeAuthority('main', 0)])

/** A cluster that runs with its first authority, and what of each epoch was deployed. */
function running(name: string) {
  const folder = new DyingFolder(join(root, name), false)
  folder.write(SETTINGS, 'cluster.env')
  folder.write(old.key, 'ca', 'ca.key')
  folder.write(old.certificate, 'ca', 'ca.crt')
  const docker = new Docker({
    run: () => Promise.resolve({ code: 0, stdout: '', stderr: '' }),
    isDryRun: false,
    output: silent,
  })
  const deploy = resolve(import.meta.dirname, '../../../deploy')
  const context: Context = { docker, output: silent, clock: systemClock, folder, deploy }
  const epochs: { signer: string; trusted: string }[] = []
  epochs[1] = { signer: old.certificate, trusted: old.certificate }
  up.run = () => {
    const { certEpoch } = settingsOf(context)
    epochs[certEpoch] ??= {
      signer: folder.read('ca', 'ca.crt') ?? '',
      trusted: folder.read('certificates', String(certEpoch), 'ca.crt') ?? '',
    }
    folder.fuse.burn()
  }
  const call = (hasNewAuthority: boolean): Promise<void> =>
    rotateCertificates(context, { hasNewAuthority, seconds: 0 })
  const isUnderWay = (): boolean => folder.list('ca').length > ['ca.crt', 'ca.key'].length
  const rotate = async (fuse: Fuse): Promise<void> => {
    folder.fuse = fuse
    do await call(true)
    while (isUnderWay())
  }
  return { folder, epochs, call, rotate }
}

test('a new authority that was killed at any moment goes on: nobody shows what others do not trust yet', async () => {
  const all = new Fuse(0)
  await running('whole').rotate(all)
  expect(all.count).toBe(25)
  for (let at = 1; at <= all.count; at += 1) {
    const { folder, epochs, rotate } = running(String(at))
    await expect(rotate(new Fuse(at))).rejects.toThrow('killed')
    await rotate(new Fuse(0))
    const label = `killed at ${at}`
    expect(epochs.length, label).toBe(5)
    for (let epoch = 2; epoch < epochs.length; epoch += 1) {
      const [before, now] = [epochs[epoch - 1], epochs[epoch]]
      expect(before?.trusted, `${label}, epoch ${epoch}`).toContain(now?.signer)
      expect(now?.trusted, `${label}, epoch ${epoch}`).toContain(before?.signer)
    }
    const made = folder.read('ca', 'ca.crt') ?? ''
    expect(made, label).not.toBe(old.certificate)
    expect(epochs.at(-1), label).toEqual({ signer: made, trusted: made })
    expect(folder.list('ca'), label).toEqual(['ca.crt', 'ca.key'])
    const key = createPublicKey(folder.read('ca', 'ca.key') ?? '')
    expect(new X509Certificate(made).publicKey.equals(key), label).toBe(true)
  }
})

test('what is left of another authority is not installed half: a missing key is an error', async () => {
  const { folder, rotate } = running('half')
  folder.write(first.certificate, 'ca', 'next.crt')
  await expect(rotate(new Fuse(0))).rejects.toThrow('next.key or next.crt is missing')
  expect(folder.read('ca', 'ca.key')).toBe(old.key)
})

test('a new authority waits for clients: all trust both, certificates are renewed meanwhile, who calls again goes on', async () => {
  const { folder, epochs, call } = running('clients')
  await call(true)
  expect(epochs.length).toBe(3)
  const both = folder.read('ca', 'both.crt')
  expect(both).toBe(old.certificate + folder.read('ca', 'next.crt'))
  expect([epochs[2]?.signer, epochs[2]?.trusted]).toEqual([old.certificate, both])
  await call(false)
  expect(epochs[3]).toEqual(epochs[2])
  await call(true)
  expect(epochs.slice(4).map((epoch) => both?.includes(epoch.signer))).toEqual([true, true])
  expect(folder.list('ca')).toEqual(['ca.crt', 'ca.key'])
  await call(false)
  expect(epochs.at(-1)).toEqual(epochs.at(-2))
})

test.each([5, 15])(
  'certificates are not renewed in the middle of a step (killed at %i)',
  async (at) => {
    const { call, rotate } = running(`middle ${at}`)
    await expect(rotate(new Fuse(at))).rejects.toThrow('killed')
    await expect(call(false)).rejects.toThrow('a change of the authority was interrupted')
  },
)
