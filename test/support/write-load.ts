/**
 * Applications that connect, write one row per transaction, and connect anew after so many: what they
 * do while processes in front of the cluster are replaced. Every commit that they were told of is
 * counted, and everything that went wrong is kept.
 */
import type { Client } from 'pg'

export interface Application {
  connect(): Promise<Client>
  /** A client each: after how many transactions it leaves its connection. */
  readonly lives: readonly number[]
  /** A connection may be ended between two statements: that is no error, another one is made. */
  readonly mayBeSentAway: boolean
  /** Each row is read once it is committed. */
  readonly isRead: boolean
}

export class WriteLoad {
  readonly errors: unknown[] = []
  acknowledged = 0
  readonly #application: Application
  #isOver = false
  #id = 0
  readonly #loops: readonly Promise<void>[]

  constructor(application: Application) {
    this.#application = application
    this.#loops = application.lives.map((life) => this.#loop(life))
  }

  /** Makes the table, empty. */
  static async prepare(client: Client): Promise<void> {
    await client.query('CREATE TABLE IF NOT EXISTS rolled (id int PRIMARY KEY)')
    await client.query('TRUNCATE rolled')
  }

  /** Rows in the table, as the primary has them. */
  static async rows(client: Client): Promise<number> {
    const sql = '/* pgsteer: primary */ SELECT count(*)::int AS n FROM rolled'
    const { rows } = await client.query<{ n: number }>(sql)
    return rows[0]?.n ?? 0
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#loops)
  }

  async #loop(life: number): Promise<void> {
    while (!this.#isOver)
      try {
        await this.#live(await this.#application.connect(), life)
      } catch (error) {
        this.errors.push(error)
      }
  }

  async #live(client: Client, life: number): Promise<void> {
    const { mayBeSentAway, isRead } = this.#application
    const endings: Error[] = []
    client.on('error', (error) => {
      endings.push(error)
      if (!mayBeSentAway) this.errors.push(error)
    })
    try {
      for (let turn = 0; turn < life && !this.#isOver && endings.length === 0; turn += 1) {
        this.#id += 1
        const id = this.#id
        await client.query('BEGIN')
        await client.query('INSERT INTO rolled VALUES ($1)', [id])
        await client.query('COMMIT')
        this.acknowledged += 1
        if (isRead) await read(client, id)
      }
    } finally {
      await client.end()
    }
  }
}

async function read(client: Client, id: number): Promise<void> {
  const { rows } = await client.query('SELECT id FROM rolled WHERE id = $1', [id])
  if (rows.length !== 1) throw new Error(`${id} is not read`)
}
