/**
 * The before_stop hook of `deploy/` where Patroni of a Debian root sees it, as an operator would
 * install it. Whom it calls is told when that has its port. A pre_promote script beside it does what
 * a scenario wants of the next promotion.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import type { Installation } from './patroni.ts'

const SCRIPT = resolve(import.meta.dirname, '../../deploy/patroni-before-stop')
const TOKEN = 'of-the-sidecar'

export class BeforeStop {
  /** For `http_token_file`. */
  readonly tokenFile: string
  readonly #folder: string
  /** The folder as Patroni sees it. */
  readonly #inner: string

  /** `seconds`: its deadline. */
  constructor({ root }: Installation, seconds = 8) {
    const temporary = join(root ?? '/', 'tmp')
    mkdirSync(temporary, { recursive: true })
    this.#folder = mkdtempSync(join(temporary, 'pgsteer-hook-'))
    this.#inner = this.#folder.slice((root ?? '').length)
    this.tokenFile = join(this.#folder, 'token')
    copyFileSync(SCRIPT, join(this.#folder, 'hook'))
    writeFileSync(this.tokenFile, `${TOKEN}\n`)
    // Without the file that `call` makes, Patroni stops as if it had no hook.
    const inner = this.#inner
    const run = `date +%s%3N > ${inner}/plans/stopped; [ ! -e ${inner}/urls ] || exec ${inner}/hook "$1" "$(cat ${inner}/urls)" ${inner}/token ${seconds}`
    writeFileSync(join(this.#folder, 'run'), `#!/bin/sh\n${run}\n`)
    // Whoever takes the plan away carries it out; without one a promotion goes as ever.
    const plan = `${inner}/plans/next`
    const promote = `if mv ${plan} ${plan}.$1 2>/dev/null; then . ${plan}.$1; fi`
    writeFileSync(join(this.#folder, 'promote'), `#!/bin/sh\n${promote}\n`)
    mkdirSync(join(this.#folder, 'plans'))
    for (const file of ['', 'hook', 'run', 'promote']) chmodSync(join(this.#folder, file), 0o755)
    chmodSync(join(this.#folder, 'plans'), 0o777)
  }

  /** What Patroni's configuration of that member needs. */
  settings(member: string): { readonly before_stop: string; readonly pre_promote: string } {
    return {
      before_stop: `${this.#inner}/run ${member}`,
      pre_promote: `${this.#inner}/promote ${member}`,
    }
  }

  /** What the next member that is promoted, and only that one, does before: a line of shell. */
  planPromotion(line: string): void {
    writeFileSync(join(this.#folder, 'plans/next'), `${line}\n`)
  }

  /** Nobody will carry the plan out any more: it was, or there was none. */
  get isPromotionDone(): boolean {
    return !existsSync(join(this.#folder, 'plans/next'))
  }

  /** When Patroni said last that it is about to stop PostgreSQL, on performance.now(); null: never. */
  get stoppedMs(): number | null {
    const file = join(this.#folder, 'plans/stopped')
    return existsSync(file) ? Number(readFileSync(file, 'utf8')) - performance.timeOrigin : null
  }

  /** From now on these are told, by the addresses of their HTTP ports. */
  call(...urls: readonly string[]): void {
    writeFileSync(join(this.#folder, 'urls'), urls.join(','))
  }

  /** From now on nobody is told. */
  silence(): void {
    rmSync(join(this.#folder, 'urls'), { force: true })
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
