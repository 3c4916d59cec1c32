/**
 * `npm run sql`: a small shell for machines without psql. Reads statements up to their semicolon,
 * shows tables and errors with their SQLSTATE. Speaks to the demonstration unless told otherwise:
 *
 *   npm run sql
 *   npm run sql -- -c "select 1"
 *   npm run sql -- postgres://postgres:postgres@127.0.0.1:6432/pgbouncer
 */
import { createInterface } from 'node:readline/promises'
import { parseArgs } from 'node:util'
import { Client, DatabaseError, type QueryArrayResult } from 'pg'
import { reasonOf } from '../base/errors.ts'
import { isComplete } from './complete.ts'
import { table } from './table.ts'

const HELP = `Statements end with ; and may span lines.
  \\q   quit (also Ctrl-D)
  \\?   this text
  npm run sql -- -c "SQL"       run and leave
  npm run sql -- postgres://... another server`

class Shell {
  readonly #url: string
  #client: Client | undefined

  constructor(url: string) {
    this.#url = url
  }

  /** Runs what was typed and prints what came back; false if it was an error. */
  async run(sql: string): Promise<boolean> {
    try {
      const client = await this.#connected()
      const answer: QueryArrayResult | QueryArrayResult[] = await client.query({
        text: sql,
        rowMode: 'array',
        // Everything as PostgreSQL wrote it.
        types: { getTypeParser: () => (value: string) => value },
      })
      for (const result of Array.isArray(answer) ? answer : [answer]) print(result)
      return true
    } catch (error) {
      // What ends the connection is told before the socket closes; the next statement takes a new one.
      if (!(error instanceof DatabaseError) || error.severity === 'FATAL') this.#client = undefined
      process.stdout.write(`${describe(error)}\n`)
      return false
    }
  }

  async close(): Promise<void> {
    await this.#client?.end()
  }

  async #connected(): Promise<Client> {
    if (this.#client !== undefined) return this.#client
    const client = new Client({ connectionString: this.#url, connectionTimeoutMillis: 10_000 })
    client.on('error', () => undefined)
    client.on('end', () => {
      this.#client = undefined
    })
    client.on('notice', ({ severity, message }) => {
      process.stdout.write(`${severity ?? 'NOTICE'}: ${message ?? ''}\n`)
    })
    await client.connect()
    this.#client = client
    return client
  }
}

function print(result: QueryArrayResult): void {
  if (result.fields.length > 0) {
    const names = result.fields.map((field) => field.name)
    const rows: (string | null)[][] = result.rows
    process.stdout.write(`${table(names, rows)}\n`)
  }
  const count = result.fields.length > 0 ? result.rows.length : (result.rowCount ?? undefined)
  const counted = count === undefined ? '' : ` (${count} ${count === 1 ? 'row' : 'rows'})`
  process.stdout.write(`${result.command ?? 'OK'}${counted}\n`)
}

function describe(error: unknown): string {
  if (!(error instanceof DatabaseError)) return `connection: ${reasonOf(error)}`
  const lines = [`${error.severity ?? 'ERROR'} ${error.code ?? ''}: ${error.message}`]
  if (error.detail !== undefined) lines.push(`DETAIL: ${error.detail}`)
  if (error.hint !== undefined) lines.push(`HINT: ${error.hint}`)
  return lines.join('\n')
}

/** Reads until the end of the input or \q; returns false if any statement failed. */
async function converse(shell: Shell): Promise<boolean> {
  const isTerminal = process.stdin.isTTY
  const lines = createInterface({
    input: process.stdin,
    output: isTerminal ? process.stdout : undefined,
  })
  let typed = ''
  let isFine = true
  const prompt = (): void => {
    if (!isTerminal) return
    lines.setPrompt(typed === '' ? 'sql> ' : '...> ')
    lines.prompt()
  }
  // Ctrl-C drops what was typed, on an empty line it leaves.
  lines.on('SIGINT', () => {
    if (typed === '' && lines.line === '') lines.close()
    typed = ''
    process.stdout.write('\n')
    prompt()
  })
  prompt()
  for await (const line of lines) {
    if (typed === '' && line.trim() === '\\q') break
    if (typed === '' && line.trim() === '\\?') process.stdout.write(`${HELP}\n`)
    else if (typed !== '' || line.trim() !== '') typed += `${line}\n`
    if (isComplete(typed)) {
      isFine = (await shell.run(typed)) && isFine
      typed = ''
    }
    prompt()
  }
  if (typed.trim() !== '') isFine = (await shell.run(typed)) && isFine
  lines.close()
  return isFine
}

const { values, positionals } = parseArgs({
  options: { command: { type: 'string', short: 'c' } },
  allowPositionals: true,
})
const port = process.env['PGSTEER_DEMO_PORT'] ?? '6432'
const shell = new Shell(positionals[0] ?? `postgres://demo:demo@127.0.0.1:${port}/demo`)
if (values.command === undefined && process.stdin.isTTY) process.stdout.write(`${HELP}\n`)
const isFine =
  values.command === undefined ? await converse(shell) : await shell.run(values.command)
await shell.close()
process.exit(isFine || process.stdin.isTTY ? 0 : 1)
