/**
 * `pgsteer cluster COMMAND`, which deploy/cluster runs: the table of commands, their help, and what happens
 * when one fails. Each command's work is in a file of its own.
 */
import { parseArgs } from 'node:util'
import { type Clock, foregroundClock } from '../base/clock.ts'
import { backup, restoreTest } from './backup.ts'
import { type Context, DEPLOY } from './context.ts'
import { Docker, type DockerRun, spawnDocker } from './docker.ts'
import { down } from './down.ts'
import { applyConfig } from './dynamic.ts'
import { findFolder } from './folder.ts'
import { init } from './init.ts'
import { whileLocked } from './lock.ts'
import { addMember, removeMember, replaceNode } from './members.ts'
import { OperatorError, type Output, terminal } from './operator.ts'
import { forgetOld, restore } from './restore.ts'
import { rotateCertificates } from './rotation.ts'
import { entriesOf } from './settings.ts'
import { status } from './status.ts'
import { switchover } from './switchover.ts'
import { renderOnly, up, upgrade } from './up.ts'

interface Parsed {
  readonly positionals: readonly string[]
  /** An option's value; undefined where it was not given. */
  readonly text: (name: string) => string | undefined
  readonly texts: (name: string) => readonly string[]
  readonly is: (name: string) => boolean
}

interface Option {
  readonly type: 'string' | 'boolean'
  readonly isMultiple?: boolean
  /** For the help: `=WHAT` for one with a value. */
  readonly shape?: string
  readonly what: string
}

interface Command {
  readonly name: string
  /** Its own parameters, for the help. */
  readonly usage: string
  readonly what: string
  /** More of the help. */
  readonly more?: string
  readonly options: Readonly<Record<string, Option>>
  /** The fewest and the most of its own parameters. */
  readonly counts: readonly [number, number]
  /** Whether it changes the cluster, as nobody else may at that time; not at all without it. */
  readonly changes?: (parsed: Parsed) => boolean
  /** Answers false for what went well but found something wrong. */
  readonly run: (context: Context, parsed: Parsed) => Promise<boolean | void>
}

const always = (): boolean => true

const WAIT: Option = {
  type: 'string',
  shape: '=SECONDS',
  what: 'how long to wait for a cluster that is well (600; 0: not at all)',
}
const WAIT_SECONDS = 600

const COMMANDS: readonly Command[] = [
  {
    name: 'init',
    usage: '[NAME] [--set KEY=VALUE]...',
    what: 'look at the Swarm, write the folder of a cluster, make labels, certificates, passwords and secrets',
    more: 'May be run again: it keeps what is there and adds what lacks. Images come by --set NODE_IMAGE=... and --set PGSTEER_IMAGE=...',
    options: {
      set: {
        type: 'string',
        isMultiple: true,
        shape: ' KEY=VALUE',
        what: 'a setting of cluster.env',
      },
      'skip-checks': {
        type: 'boolean',
        what: 'do not ask the nodes for kernel, clock and ports (needs no image)',
      },
    },
    counts: [0, 1],
    changes: always,
    run: async (context, { positionals: [name], texts, is }) => {
      await init(context, { name, set: texts('set'), isChecked: !is('skip-checks') })
    },
  },
  {
    name: 'render',
    usage: '[STACK]...',
    what: 'write the stack files as `up` would deploy them, and check them',
    options: {},
    counts: [0, 3],
    run: async (context, { positionals }) => {
      await renderOnly(context, positionals)
    },
  },
  {
    name: 'up',
    usage: '[STACK]...',
    what: 'deploy, or bring what runs to what cluster.env says',
    more: 'STACK is stack, monitoring or tools; without one: the database, monitoring where ALERT_RECEIVERS_FILE is set, and what runs already.',
    options: {
      wait: WAIT,
      'all-at-once': {
        type: 'boolean',
        what: 'change all members together, without a look: only where nothing works any more',
      },
      'take-over': {
        type: 'boolean',
        what: 'go on although what runs was deployed from a later copy of the folder',
      },
    },
    counts: [0, 3],
    changes: always,
    run: async (context, { positionals, text, is }) => {
      await up(context, {
        stacks: positionals,
        seconds: secondsOf(text('wait'), WAIT_SECONDS),
        isAtOnce: is('all-at-once'),
        isTakenOver: is('take-over'),
      })
    },
  },
  {
    name: 'status',
    usage: '[--json]',
    what: 'members, roles, lag, etcd, pgsteer, nodes, backups, certificates, alerts; exit code 1 if something is wrong',
    options: { json: { type: 'boolean', what: 'as one JSON value' } },
    counts: [0, 0],
    run: async (context, { is }) => await status(context, is('json')),
  },
  {
    name: 'switchover',
    usage: '[MEMBER]',
    what: 'make another member the primary, without losing anything',
    more: 'Without MEMBER: the synchronous replica that lags least.',
    options: {},
    counts: [0, 1],
    changes: always,
    run: async (context, { positionals: [candidate] }) => {
      await switchover(context, candidate)
    },
  },
  {
    name: 'apply-config',
    usage: '[FILE] [--yes]',
    what: "make Patroni's dynamic configuration what a file says",
    more: 'Without --yes it says what would change, and changes nothing. FILE is YAML with what shall change, or a Patroni file with bootstrap.dcs; without it: deploy/patroni/base.yml, which takes back what was tuned. Keys that it does not name stay; null takes one away.',
    options: { yes: { type: 'boolean', what: 'apply it' } },
    counts: [0, 1],
    changes: ({ is }) => is('yes'),
    run: async (context, { positionals: [file], is }) => {
      await applyConfig(context, { file, isConfirmed: is('yes') })
    },
  },
  {
    name: 'add-member',
    usage: 'NODE',
    what: 'a further member of PostgreSQL on a node',
    options: { wait: WAIT },
    counts: [1, 1],
    changes: always,
    run: async (context, { positionals: [node = ''], text }) => {
      await addMember(context, node, secondsOf(text('wait'), WAIT_SECONDS))
    },
  },
  {
    name: 'remove-member',
    usage: 'MEMBER [--volumes]',
    what: 'take a member of PostgreSQL away (patroni4, for instance)',
    options: { wait: WAIT, volumes: { type: 'boolean', what: 'its data too' } },
    counts: [1, 1],
    changes: always,
    run: async (context, { positionals: [name = ''], text, is }) => {
      const seconds = secondsOf(text('wait'), WAIT_SECONDS)
      await removeMember(context, name, { seconds, hasVolumes: is('volumes') })
    },
  },
  {
    name: 'replace-node',
    usage: 'OLD NEW [--volumes]',
    what: 'bring what a node has (members of PostgreSQL and etcd, repository, monitoring) to another node',
    more: 'OLD may be dead. NEW has to be in the Swarm, without a member and without data of one that it had. With the same node twice its member of etcd is made anew, after a new disk for instance.',
    options: {
      wait: WAIT,
      volumes: { type: 'boolean', what: 'remove the data that NEW has of an earlier member' },
    },
    counts: [2, 2],
    changes: always,
    run: async (context, { positionals: [before = '', after = ''], text, is }) => {
      const move = { before, after, hasVolumes: is('volumes') }
      await replaceNode(context, move, secondsOf(text('wait'), WAIT_SECONDS))
    },
  },
  {
    name: 'rotate-certs',
    usage: '[--new-ca]',
    what: 'new certificates for every service, one member after the other',
    options: {
      wait: WAIT,
      'new-ca': {
        type: 'boolean',
        what: 'a new authority: all trust both, and once called again only the new one',
      },
    },
    counts: [0, 0],
    changes: always,
    run: async (context, { text, is }) => {
      const seconds = secondsOf(text('wait'), WAIT_SECONDS)
      await rotateCertificates(context, { hasNewAuthority: is('new-ca'), seconds })
    },
  },
  {
    name: 'upgrade',
    usage: '[--node-image=IMAGE] [--pgsteer-image=IMAGE] [--etcd-image=IMAGE]',
    what: 'other images: replicas first, then a switchover, the old primary last; pgsteer node by node',
    options: {
      wait: WAIT,
      'node-image': { type: 'string', shape: '=IMAGE', what: 'of members, agents and repository' },
      'pgsteer-image': { type: 'string', shape: '=IMAGE', what: 'of pgsteer' },
      'etcd-image': { type: 'string', shape: '=IMAGE', what: 'of etcd' },
    },
    counts: [0, 0],
    changes: always,
    run: async (context, { text }) => {
      await upgrade(context, {
        images: {
          NODE_IMAGE: text('node-image'),
          PGSTEER_IMAGE: text('pgsteer-image'),
          ETCD_IMAGE: text('etcd-image'),
        },
        seconds: secondsOf(text('wait'), WAIT_SECONDS),
      })
    },
  },
  {
    name: 'backup',
    usage: '[--type=full|diff|incr]',
    what: 'take a backup into every repository now',
    options: { type: { type: 'string', shape: '=KIND', what: 'full, diff or incr (incr)' } },
    counts: [0, 0],
    run: async (context, { text }) => {
      await backup(context, text('type'))
    },
  },
  {
    name: 'restore-test',
    usage: '',
    what: 'restore the newest backup beside the repository, read all of it, and throw it away',
    options: {},
    counts: [0, 0],
    run: restoreTest,
  },
  {
    name: 'restore',
    usage: '[--to=MOMENT | --set=LABEL] [--yes]',
    what: 'restore the whole cluster: all that is archived, a moment, or a backup',
    more: 'Without --yes it says whether it can be done, and stops nothing. The old data is renamed, not removed. A restore that was interrupted goes on when it is run again, with --member.',
    options: {
      to: {
        type: 'string',
        shape: '=MOMENT',
        what: 'as it was then, with a time zone: 2026-11-23T14:05:00Z',
      },
      set: { type: 'string', shape: '=LABEL', what: 'as it was at the end of that backup' },
      timeline: {
        type: 'string',
        shape: '=NUMBER',
        what: 'of a time line that an earlier restore left',
      },
      member: {
        type: 'string',
        shape: '=NAME',
        what: 'the member that is restored; the others are copied from it (the primary)',
      },
      again: { type: 'boolean', what: 'also when the member was restored to the same already' },
      'discard-old': {
        type: 'boolean',
        what: 'remove the old data instead of renaming it, where there is no room for both',
      },
      'forget-old': {
        type: 'boolean',
        what: 'only remove what earlier restores have renamed (with --yes)',
      },
      yes: { type: 'boolean', what: 'stop all members and do it' },
    },
    counts: [0, 0],
    changes: ({ is }) => is('yes') || is('forget-old'),
    run: async (context, { text, is }) => {
      if (is('forget-old')) {
        await forgetOld(context, is('yes'))
        return
      }
      await restore(context, {
        to: text('to'),
        set: text('set'),
        timeline: text('timeline'),
        member: text('member'),
        isAgain: is('again'),
        isOldDiscarded: is('discard-old'),
        isConfirmed: is('yes'),
      })
    },
  },
  {
    name: 'down',
    usage: '[--volumes] [--secrets] [--yes-remove=NAME]',
    what: 'take the services away; data and keys only if that is asked for',
    options: {
      volumes: {
        type: 'boolean',
        what: 'all data too, and the repository of backups on its volume',
      },
      secrets: { type: 'boolean', what: 'the Docker secrets too (the folder keeps its copy)' },
      'yes-remove': {
        type: 'string',
        shape: '=NAME',
        what: "the cluster's name once more, for --volumes and --secrets",
      },
    },
    counts: [0, 0],
    changes: always,
    run: async (context, { text, is }) => {
      await down(context, {
        hasVolumes: is('volumes'),
        hasSecrets: is('secrets'),
        confirmation: text('yes-remove'),
      })
    },
  },
]

const COMMON: Readonly<Record<string, Option>> = {
  dir: {
    type: 'string',
    shape: '=FOLDER',
    what: "the cluster's folder (else $PGSTEER_CLUSTER_DIR, else ./cluster-NAME)",
  },
  'dry-run': { type: 'boolean', what: 'say what would be done and do none of it' },
  help: { type: 'boolean', what: 'print this' },
}
const BREAK_LOCK: Option = {
  type: 'boolean',
  what: 'go on although another command says that it changes the cluster: only when it does not run any more',
}

function optionsOf({ options, changes }: Command): Readonly<Record<string, Option>> {
  return { ...options, ...(changes === undefined ? {} : { 'break-lock': BREAK_LOCK }), ...COMMON }
}

const EXIT_WRONG = 1
const EXIT_USAGE = 2

/** What a test gives instead of the machine's own. */
export interface Machine {
  readonly run: DockerRun
  readonly clock: Clock
  readonly output: Output
  readonly env: NodeJS.ProcessEnv
  readonly cwd: string
  readonly deploy: string
}

const machine = (): Machine => ({
  run: spawnDocker,
  clock: foregroundClock,
  output: terminal,
  env: process.env,
  cwd: process.cwd(),
  deploy: DEPLOY,
})

/** Runs the command that `args` names; returns the exit code. */
export async function runCluster(
  args: readonly string[],
  on: Machine = machine(),
): Promise<number> {
  const [name, ...rest] = args
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    on.output.print(usage())
    return name === undefined ? EXIT_USAGE : 0
  }
  const command = COMMANDS.find((one) => one.name === name)
  if (command === undefined) {
    on.output.warn(`there is no command ${name}`)
    on.output.print(usage())
    return EXIT_USAGE
  }
  try {
    return await runCommand(command, rest, on)
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error
    on.output.step(`error: ${error.message}`)
    on.output.step(`what to do: ${error.remedy}`)
    return EXIT_WRONG
  }
}

async function runCommand(command: Command, args: readonly string[], on: Machine): Promise<number> {
  const parsed = parse(command, args)
  if (parsed === undefined || parsed.is('help')) {
    on.output.print(help(command))
    return parsed === undefined ? EXIT_USAGE : 0
  }
  const isDryRun = parsed.is('dry-run')
  const name = command.name === 'init' ? parsed.positionals[0] : undefined
  const folder = findFolder({ dir: parsed.text('dir'), name, isDryRun }, on.env, on.cwd)
  const { clock, output, deploy } = on
  const docker = new Docker({ run: on.run, isDryRun, output })
  const context = { docker, output, clock, folder, deploy }
  const work = async () => await command.run(context, parsed)
  const cluster = entriesOf(folder.read('cluster.env') ?? '')['CLUSTER'] ?? name
  const isLocked = !isDryRun && command.changes?.(parsed) === true && cluster !== undefined
  const locking = {
    cluster: cluster ?? '',
    command: command.name,
    isBroken: parsed.is('break-lock'),
  }
  const answer = isLocked ? await whileLocked(context, locking, work) : await work()
  return answer === false ? EXIT_WRONG : 0
}

function parse(command: Command, args: readonly string[]): Parsed | undefined {
  const options = Object.fromEntries(
    Object.entries(optionsOf(command)).map(([name, { type, isMultiple = false }]) => [
      name,
      { type, multiple: isMultiple },
    ]),
  )
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true })
    const [least, most] = command.counts
    if (values['help'] !== true && (positionals.length < least || positionals.length > most))
      return undefined
    const texts = (name: string): string[] =>
      [values[name]].flat().filter((value): value is string => typeof value === 'string')
    return {
      positionals,
      texts,
      text: (name) => texts(name)[0],
      is: (name) => values[name] === true,
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new OperatorError(error.message, `See \`${command.name} --help\`.`, error)
  }
}

function secondsOf(text: string | undefined, initial: number): number {
  if (text === undefined) return initial
  if (/^\d{1,5}$/.test(text)) return Number(text)
  throw new OperatorError(`--wait=${text} is not a number of seconds`, 'For instance: --wait=900')
}

function usage(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length))
  return [
    'Deploys a PostgreSQL cluster on Docker Swarm and looks after it.',
    '',
    'Usage: deploy/cluster COMMAND [--dir=FOLDER] [--dry-run]    (or: pgsteer cluster COMMAND)',
    '',
    ...COMMANDS.map(({ name, what }) => `  ${name.padEnd(width)}  ${what}`),
    '',
    'COMMAND --help says more. Docker is reached as the docker command reaches it: DOCKER_HOST, contexts.',
  ].join('\n')
}

function help(command: Command): string {
  const { name, usage: parameters, what, more } = command
  const rows = Object.entries(optionsOf(command)).map(([option, { shape = '', what: does }]) => [
    `  --${option}${shape}`,
    does,
  ])
  const width = Math.max(...rows.map(([first = '']) => first.length))
  return [
    `Usage: deploy/cluster ${name} ${parameters}`.trim(),
    '',
    `${what[0]?.toUpperCase() ?? ''}${what.slice(1)}.`,
    ...(more === undefined ? [] : ['', more]),
    '',
    ...rows.map(([first = '', second = '']) => `${first.padEnd(width)}  ${second}`),
  ].join('\n')
}
