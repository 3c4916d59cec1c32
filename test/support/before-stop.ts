/**
 * The before_stop hook of `deploy/` where Patroni of a Debian root sees it, as an operator would
 * install it. Whom it calls is told when that has its port.
 */
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
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
    const run = `[ ! -e ${inner}/urls ] || exec ${inner}/hook "$1" "$(cat ${inner}/urls)" ${inner}/token ${seconds}`
    writeFileSync(join(this.#folder, 'run'), `#!/bin/sh\n${run}\n`)
    for (const file of ['', 'hook', 'run']) chmodSync(join(this.#folder, file), 0o755)
  }

  /** What Patroni's configuration of that member needs. */
  settings(member: string): { readonly before_stop: string } {
    return { before_stop: `${this.#inner}/run ${member}` }
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
