/**
 * Docker as the tool sees it: the `docker` command, run without a shell, so that DOCKER_HOST, contexts and
 * ssh:// work as everywhere. Secrets go through its standard input only. What reads is told from what
 * changes: a dry run does the first and prints the second.
 */
import { spawn } from 'node:child_process'
import { arrayOf } from './json.ts'
import type { Output } from './operator.ts'
import { OperatorError } from './operator.ts'

export interface DockerResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface DockerOptions {
  /** For standard input; never printed. */
  readonly input?: string
  /** Added to the environment, for `stack config`; undefined takes one away. */
  readonly env?: Readonly<Record<string, string | undefined>>
}

/** Runs `docker ARGS`. Answers with its exit code, whatever that is; rejects only if it cannot be started. */
export type DockerRun = (args: readonly string[], options: DockerOptions) => Promise<DockerResult>

/** One docker command may wait for images and for a manager's election, not for ever. */
const COMMAND_MS_MAX = 300_000

/** The `docker` of the path. */
export const spawnDocker: DockerRun = (args, { input = '', env = {} }) =>
  new Promise((resolve, reject) => {
    const child = spawn('docker', args, {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
      signal: AbortSignal.timeout(COMMAND_MS_MAX),
    })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.on('error', (error) => {
      reject(startError(error))
    })
    child.on('close', (code) => {
      resolve({ code: code ?? -1, stdout: joined(stdout), stderr: joined(stderr) })
    })
    // A command that ends without reading what it was given says why in its exit code.
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
  })

function joined(chunks: readonly Buffer[]): string {
  return Buffer.concat(chunks).toString('utf8')
}

function startError(error: NodeJS.ErrnoException): OperatorError {
  if (error.code === 'ENOENT')
    return new OperatorError(
      'the command docker was not found',
      'Install the Docker CLI (package docker.io or docker-ce-cli) and put it into PATH.',
      error,
    )
  return new OperatorError(
    `docker could not be run: ${error.message}`,
    'Run `docker info` by hand: it shows whether the manager answers.',
    error,
  )
}

export class Docker {
  readonly isDryRun: boolean
  readonly #run: DockerRun
  readonly #output: Output

  constructor({ run, isDryRun, output }: { run: DockerRun; isDryRun: boolean; output: Output }) {
    this.isDryRun = isDryRun
    this.#run = run
    this.#output = output
  }

  /** What the command printed. Errors: OperatorError with docker's own words. */
  async read(args: readonly string[], options: DockerOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.#run(args, options)
    if (code !== 0) throw failure(args, stderr)
    return stdout
  }

  /** As `read`, but undefined where docker says that there is no such thing. */
  async find(args: readonly string[]): Promise<string | undefined> {
    const { code, stdout, stderr } = await this.#run(args, {})
    if (code === 0) return stdout
    if (/no such|not found|nothing found/i.test(stderr)) return undefined
    throw failure(args, stderr)
  }

  /** Tasks of these ids, without those that Docker has forgotten since it named them. */
  async tasks(ids: readonly string[]): Promise<unknown[]> {
    if (ids.length === 0) return []
    const args = ['inspect', '--type', 'task', ...ids]
    const { code, stdout, stderr } = await this.#run(args, {})
    // It prints those that there are in either case.
    if (code !== 0 && !/no such|not found/i.test(stderr)) throw failure(args, stderr)
    const described: unknown = stdout.trim() === '' ? [] : JSON.parse(stdout)
    return Array.isArray(described) ? described : []
  }

  /** As `find`, with what Docker's second stream has behind it: a service's logs come with both streams apart. */
  async logs(service: string): Promise<string> {
    const { code, stdout, stderr } = await this.#run(['service', 'logs', '--raw', service], {})
    if (code === 0) return stdout + stderr
    if (/no such|not found|nothing found/i.test(stderr)) return ''
    throw failure(['service', 'logs', service], stderr)
  }

  /** As `read`, for what changes the cluster: a dry run prints the command and does nothing. */
  async change(args: readonly string[], options: DockerOptions = {}): Promise<string> {
    if (!this.isDryRun) return await this.read(args, options)
    this.#output.print(`would run: docker ${args.map(quoted).join(' ')}`)
    return ''
  }

  /** As `change`, for what may fail now and will be tried again. */
  async tryChange(args: readonly string[]): Promise<void> {
    if (!this.isDryRun) await this.#run(args, {})
  }

  /** The lines that the command printed, without empty ones. */
  async lines(args: readonly string[]): Promise<string[]> {
    return (await this.read(args)).split('\n').filter((line) => line.trim() !== '')
  }

  /** The command's output, an array of JSON as all of docker's `inspect` commands print it. */
  async inspect(args: readonly string[]): Promise<unknown[]> {
    return arrayOf(JSON.parse(await this.read(args)))
  }
}

/** As a person would type it into a shell. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

const REMEDIES: readonly (readonly [pattern: RegExp, remedy: string])[] = [
  [
    /cannot connect to the docker daemon|error during connect|connection refused/i,
    'Set DOCKER_HOST (or `docker context use`) to a manager of the Swarm, for instance ssh://root@node1, and try `docker node ls`.',
  ],
  [
    /not a swarm manager/i,
    'Run `docker swarm init` on the first node and join the others as managers (docs/deploy.md), or point DOCKER_HOST at a manager.',
  ],
  [
    /does not have a leader|lost quorum|no elected primary component/i,
    'Most managers do not answer: start their Docker, then try again. `docker node ls` has to answer first.',
  ],
  [
    /already exists/i,
    'Something of that name is there that this tool did not make: see whose it is, remove it, and run the command again.',
  ],
  [
    /update out of sequence/i,
    'Somebody else changed the same thing at this moment: run the command again.',
  ],
]

function failure(args: readonly string[], stderr: string): OperatorError {
  const words = stderr.trim().replace(/^Error response from daemon: /, '')
  const shown = args.map(quoted).join(' ')
  const remedy = REMEDIES.find(([pattern]) => pattern.test(words))?.[1]
  return new OperatorError(
    `docker ${shown.length > 300 ? `${shown.slice(0, 300)}...` : shown}: ${words}`,
    remedy ??
      "The words above are Docker's own. Mend what they name and run the command again: it goes on where it stopped.",
  )
}
