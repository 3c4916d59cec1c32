/**
 * A wall clock that jumps, for one pgsteer: its Date is that of this machine and what stands in a
 * file. The monotonic clocks stay as they are, as they do when somebody sets a machine's clock.
 */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const file = join(mkdtempSync(join(tmpdir(), 'pgsteer-clock-')), 'jump')

const MODULE = `
import { readFileSync } from 'node:fs'
const Real = Date
let jumpMs = 0
setInterval(() => { try { jumpMs = Number(readFileSync(${JSON.stringify(file)}, 'utf8')) } catch {} }, 50).unref()
globalThis.Date = class Date extends Real {
  constructor(...given) { if (given.length === 0) super(Real.now() + jumpMs); else super(...given) }
  static now() { return Real.now() + jumpMs }
}`

/** The environment of a pgsteer whose clock jumps. */
export const JUMPING: Readonly<Record<string, string>> = {
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(MODULE)}`,
}

/** From now on, within a moment, its wall clock is wrong by so much. */
export function jump(ms: number): void {
  writeFileSync(file, String(ms))
}
