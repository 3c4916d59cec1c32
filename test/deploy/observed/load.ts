/** A few applications that write and read through pgsteer at an easy pace, until they are stopped. */
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import type { Steer } from '../../support/steer.ts'

const CLIENTS = 12
const PAUSE_MS = 25

export class Load {
  readonly #steer: Steer
  readonly #tasks: Promise<void>[] = []
  #isStopped = false

  constructor(steer: Steer) {
    this.#steer = steer
  }

  async start(): Promise<void> {
    for (let index = 0; index < CLIENTS; index += 1) this.#tasks.push(this.#run(index))
    await Promise.resolve()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await Promise.all(this.#tasks)
  }

  /** Connects again after whatever happens; a failover is part of the show. */
  async #run(index: number): Promise<void> {
    while (!this.#isStopped) {
      const client = new Client({ connectionString: this.#steer.url() })
      client.on('error', () => undefined)
      try {
        await client.connect()
        await this.#work(client, index)
      } catch {
        await pause(PAUSE_MS * 10)
      } finally {
        await client.end().catch(() => undefined)
      }
    }
  }

  async #work(client: Client, index: number): Promise<void> {
    while (!this.#isStopped) {
      if (index % 4 === 0) await client.query('insert into written (id) values ($1)', [`${index}`])
      else await client.query('select count(*) from (select * from written limit 200) as part')
      await pause(PAUSE_MS)
    }
  }
}
