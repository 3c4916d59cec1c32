/** Ctrl-C on `npm start`: a terminal sends it to every process of the group at once. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { freePort } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const SLOWLY = { withinMs: 60_000 }

/** Processes whose environment has this. */
function processesWith(variable: string): string[] {
  return readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/environ`, 'utf8').includes(variable)
    } catch {
      return false
    }
  })
}

test('Ctrl-C ends everything that npm start began, and leaves nothing behind', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'interrupt-'))
  chmodSync(folder, 0o755)
  const child = spawn(process.execPath, [join(ROOT, 'scripts/run.mjs'), 'src/demo/main.ts'], {
    cwd: ROOT,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      PGSTEER_DEMO_PORT: String(await freePort()),
      PGSTEER_DEMO_HTTP_PORT: String(await freePort()),
      TMPDIR: folder,
    },
  })
  const group = -(child.pid ?? 0)
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => {
      output += text.toString()
    })
  try {
    await waitFor('the guide', () => output.includes('Nothing stays behind'), SLOWLY)
    expect(processesWith(folder).length).toBeGreaterThan(3)
    const ended = once(child, 'exit')
    process.kill(group, 'SIGINT')
    await ended
    expect([child.exitCode, child.signalCode]).toEqual([0, null])
    await waitFor('no process is left', () => processesWith(folder).length === 0)
    expect(readdirSync(folder)).toEqual([])
  } finally {
    if (child.exitCode === null && child.signalCode === null) process.kill(group, 'SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
}, 180_000)
