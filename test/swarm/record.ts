/**
 * What a run of the long form did and saw, step by step, for scripts/docs-swarm.ts to put into docs/deploy.md. Written
 * after each step, so that a run that was ended tells how far it came.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

interface Step {
  readonly step: string
  readonly seconds: number
  /** Of the machine, over the last minute, at its end. */
  readonly load: number
  readonly saw: unknown
  /** Alerts that fired meanwhile; null before there was a Prometheus. */
  readonly alerts: readonly string[] | null
}

export interface Report {
  readonly startedAt: string
  readonly seconds: number
  /** All steps were done, and no test failed. */
  readonly isWhole: boolean
  readonly failed: readonly string[]
  readonly steps: readonly Step[]
}

interface Around {
  readonly file: string
  /** Names of alerts that fired in the last seconds. */
  readonly alerts: (seconds: number) => Promise<readonly string[]>
  readonly load: () => number
}

export class Recorder {
  readonly #around: Around
  readonly #started = { at: new Date().toISOString(), ms: performance.now() }
  readonly #steps: Step[] = []
  readonly #failed: string[] = []

  constructor(around: Around) {
    this.#around = around
  }

  /** Does one step; what it returns is what it saw. */
  async step<T>(name: string, work: () => Promise<T>): Promise<T> {
    const startedMs = performance.now()
    const saw = await work()
    const seconds = Math.round((performance.now() - startedMs) / 1000)
    const alerts = await this.#around.alerts(seconds).catch(() => null)
    this.#steps.push({ step: name, seconds, load: this.#around.load(), saw, alerts })
    this.write(false)
    return saw
  }

  /** A test that failed. */
  fail(title: string): void {
    this.#failed.push(title)
  }

  write(isEnd: boolean): void {
    const report: Report = {
      startedAt: this.#started.at,
      seconds: Math.round((performance.now() - this.#started.ms) / 1000),
      isWhole: isEnd && this.#failed.length === 0,
      failed: this.#failed,
      steps: this.#steps,
    }
    mkdirSync(dirname(this.#around.file), { recursive: true })
    writeFileSync(this.#around.file, `${JSON.stringify(report, null, 2)}\n`)
  }
}
