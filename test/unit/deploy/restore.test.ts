import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { foregroundClock } from '../../../src/base/clock.ts'
import { DEPLOY } from '../../../src/deploy/context.ts'
import { Docker, type DockerResult } from '../../../src/deploy/docker.ts'
import { Folder } from '../../../src/deploy/folder.ts'
import { OperatorError } from '../../../src/deploy/operator.ts'
import { forgetOld, restore } from '../../../src/deploy/restore.ts'
import { settingsText } from '../../../src/deploy/settings.ts'
import { VALUES } from './values.ts'

const root = mkdtempSync(join(tmpdir(), 'pgsteer-restore-'))
afterAll(() => {
  rmSync(root, { recursive: true })
})
const folder = new Folder(root, false)
folder.write(settingsText(VALUES), 'cluster.env')
const PLAN = { to: undefined, set: undefined, timeline: undefined, member: undefined }
const FIRM = { ...PLAN, isAgain: false, isOldDiscarded: false, isConfirmed: true }

const say = (stdout: string): DockerResult => ({ code: 0, stdout, stderr: '' })

/** A Swarm with three members whose jobs end at once, and what was done to it in order. */
class Swarm {
  readonly done: string[] = []
  readonly replicas = new Map([1, 2, 3].map((slot) => [`main_patroni${slot}`, 1]))
  readonly #jobs = new Map<string, { output: string; isOk: boolean }>()
  leader = 'patroni2'
  running = ['patroni2']
  /** The hostname of a node that is down. */
  down = ''
  /** The job of that name fails with these words. */
  failing: Record<string, string> = {}

  context() {
    const docker = new Docker({
      run: async (args) => Promise.resolve(this.#answer(args)),
      isDryRun: false,
      output: { step: () => undefined, warn: () => undefined, print: () => undefined },
    })
    const output = { step: () => undefined, warn: () => undefined, print: () => undefined }
    return { docker, output, clock: foregroundClock, folder, deploy: DEPLOY }
  }

  #answer(args: readonly string[]): DockerResult {
    const [first = '', second = ''] = args
    const last = args.at(-1) ?? ''
    if (first === 'node') return say(second === 'ls' ? 'a\nb\nc\n' : JSON.stringify(this.#nodes()))
    if (first === 'inspect') return say(JSON.stringify(args.slice(3).map((id) => this.#task(id))))
    if (second === 'create') return say(this.#create(args))
    if (second === 'logs') return say(this.#jobs.get(last)?.output ?? '')
    if (second === 'scale') return say(this.#scale(last))
    if (second === 'inspect')
      return say(JSON.stringify(args.slice(2).map((name) => this.#service(name))))
    if (second === 'ps' && (this.#jobs.has(last) || (this.replicas.get(last) ?? 0) > 0))
      return say(`${last}\n`)
    return say('')
  }

  #nodes(): unknown[] {
    return ['a', 'b', 'c'].map((name) => ({
      ID: name,
      Description: { Hostname: name },
      Status: { State: name === this.down ? 'down' : 'ready' },
    }))
  }

  #service(name: string): unknown {
    const volume = { Type: 'volume', Source: name, Target: '/var/lib/postgresql' }
    const container = { Image: 'node:1', Mounts: [volume] }
    const mode = { Replicated: { Replicas: this.replicas.get(name) } }
    return { Spec: { Mode: mode, TaskTemplate: { ContainerSpec: container } } }
  }

  #task(id: string): unknown {
    const isOk = this.#jobs.get(id)?.isOk ?? true
    return { Status: { State: isOk ? 'complete' : 'failed', ContainerStatus: { ExitCode: 0 } } }
  }

  #create(args: readonly string[]): string {
    const [name = '', command] = [
      args[args.indexOf('--name') + 1],
      args.slice(args.indexOf('node:1') + 1),
    ]
    const member = /source=main_(patroni\d)/.exec(args.join(' '))?.[1] ?? ''
    const [program = '', what = ''] = command
    if (program !== 'facts') this.done.push(`${command.join(' ')} on ${member}`)
    const problem = this.failing[what]
    const members = this.running.map((one) => ({
      name: one,
      state: 'running',
      role: one === this.leader ? 'leader' : 'replica',
    }))
    const facts = { members, cluster: { members } }
    const output = program === 'facts' ? JSON.stringify(facts) : (problem ?? '{}')
    this.#jobs.set(name, { output, isOk: problem === undefined })
    return ''
  }

  #scale(change: string): string {
    const [name = '', count = ''] = change.split('=')
    this.replicas.set(name, Number(count))
    this.done.push(change.replace('main_', ''))
    return ''
  }
}

test('the members stop after the proof, the primary last; it is restored, leads, and the others follow', async () => {
  const swarm = new Swarm()
  await restore(swarm.context(), { ...FIRM, to: '2026-11-23T14:05:00Z' })
  expect(swarm.done).toEqual([
    'restore check --time 2026-11-23T14:05:00Z on patroni2',
    'patroni1=0',
    'patroni3=0',
    'patroni2=0',
    'restore run --time 2026-11-23T14:05:00Z on patroni2',
    'patroni2=1',
    'restore set-aside on patroni1',
    'patroni1=1',
    'restore set-aside on patroni3',
    'patroni3=1',
  ])
})

test('without a confirmation nothing stops', async () => {
  const swarm = new Swarm()
  await restore(swarm.context(), { ...FIRM, isConfirmed: false })
  expect(swarm.done).toEqual(['restore check on patroni2'])
})

test('a target that cannot be restored is told, and nothing stops', async () => {
  const swarm = new Swarm()
  swarm.failing = { check: 'restore: no backup had ended at 2020' }
  await expect(restore(swarm.context(), { ...FIRM, to: '2020-01-01T00:00:00Z' })).rejects.toThrow(
    /restore on patroni2: restore: no backup had ended at 2020/,
  )
  expect(swarm.done.some((step) => step.endsWith('=0'))).toBe(false)
})

test('a restore that failed leaves the members stopped, and goes on when it is run again', async () => {
  const swarm = new Swarm()
  swarm.failing = { run: 'restore: no etcd answers' }
  await expect(restore(swarm.context(), FIRM)).rejects.toThrow(OperatorError)
  expect([...swarm.replicas.values()]).toEqual([0, 0, 0])
  swarm.failing = {}
  swarm.done.length = 0
  await expect(restore(swarm.context(), FIRM)).rejects.toThrow(
    /not known which one was the primary/,
  )
  await restore(swarm.context(), { ...FIRM, member: 'patroni2' })
  expect(swarm.done).not.toContain('restore check on patroni2')
  expect([...swarm.replicas.values()]).toEqual([1, 1, 1])
})

test('a member whose node is down neither stops a restore nor is waited for', async () => {
  const swarm = new Swarm()
  swarm.down = 'c'
  swarm.replicas.set('main_patroni3', 1)
  await restore(swarm.context(), FIRM)
  expect(swarm.done).not.toContain('restore set-aside on patroni3')
  expect(swarm.done.slice(-3)).toEqual([
    'restore set-aside on patroni1',
    'patroni1=1',
    'patroni3=1',
  ])
  await expect(restore(swarm.context(), { ...FIRM, member: 'patroni3' })).rejects.toThrow(
    /the node of patroni3 is down/,
  )
})

test('a member that could not be set aside starts all the same: a second restore would lose writes', async () => {
  const swarm = new Swarm()
  swarm.failing = { 'set-aside': 'restore: a member still runs on this volume' }
  await restore(swarm.context(), FIRM)
  expect(swarm.done.slice(-4)).toEqual([
    'restore set-aside on patroni1',
    'patroni1=1',
    'restore set-aside on patroni3',
    'patroni3=1',
  ])
})

test('old data is removed only from a cluster that is well, and on confirmation', async () => {
  const swarm = new Swarm()
  await expect(forgetOld(swarm.context(), true)).rejects.toThrow(/not well: patroni1, patroni3/)
  swarm.running = ['patroni1', 'patroni2', 'patroni3']
  await forgetOld(swarm.context(), false)
  expect(swarm.done).toEqual([])
  await forgetOld(swarm.context(), true)
  expect(swarm.done).toEqual([1, 2, 3].map((slot) => `restore forget on patroni${slot}`))
})
