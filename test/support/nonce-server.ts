/**
 * A PostgreSQL that knows one table of nonces, for tests in which many clients share its connections:
 * `SELECT nonce FROM t WHERE id = 7` says `nonce 7`, `FROM w` is a view that writes when it is read, and
 * `WHERE id = 0` fails. Written from the manual, independent of src/.
 */
import { backend, type Frame, frames } from './bytes.ts'

export class NonceServer {
  /** How often each nonce was written. */
  readonly written: Map<number, number>
  isReadOnly = false
  #inbox: Frame[] = []
  #rest: Buffer = Buffer.alloc(0)
  #isSkipping = false
  readonly #statements = new Map<string, string>()
  #portal = ''

  constructor(written: Map<number, number>) {
    this.written = written
  }

  /** Messages that it has not looked at. */
  get waiting(): number {
    return this.#inbox.length
  }

  take(bytes: Buffer): void {
    const read = frames(Buffer.concat([this.#rest, bytes]))
    this.#rest = read.rest
    this.#inbox.push(...read.frames)
  }

  /** Looks at one message; returns what it says to it. */
  step(): Buffer {
    const message = this.#inbox.shift()
    if (message === undefined) return Buffer.alloc(0)
    const { body, type } = message
    if (this.#isSkipping && type !== 'S') return Buffer.alloc(0)
    const [first = '', second = ''] = body.toString('latin1').split('\0')
    switch (type) {
      case 'Q':
        this.#statements.delete('')
        return Buffer.concat([this.#run(first, true) ?? this.#failure, backend.readyForQuery()])
      case 'P':
        if (first !== '' && this.#statements.has(first)) return this.#fail('42P05')
        if (second.includes('id = 0')) return this.#fail('42601')
        this.#statements.set(first, second)
        return backend.parseComplete()
      case 'B':
        return this.#bind(second, body)
      case 'E': {
        const answer = this.#run(this.#portal, false)
        return answer ?? this.#fail(this.#sqlstate)
      }
      case 'C':
        this.#statements.delete(first.slice(1))
        return backend.closeComplete()
      case 'S':
        this.#isSkipping = false
        return backend.readyForQuery()
      default:
        throw new Error(`a message of type ${type}`)
    }
  }

  #sqlstate = ''

  get #failure(): Buffer {
    return backend.errorResponse(this.#sqlstate, 'refused')
  }

  #fail(sqlstate: string): Buffer {
    this.#sqlstate = sqlstate
    this.#isSkipping = true
    return this.#failure
  }

  #bind(name: string, body: Buffer): Buffer {
    const text = this.#statements.get(name)
    if (text === undefined) return this.#fail('26000')
    // Two names, no formats, one value.
    const valuesAt = 1 + name.length + 1 + 2
    const value =
      body.readInt16BE(valuesAt) === 0
        ? ''
        : body.toString('latin1', valuesAt + 6, valuesAt + 6 + body.readInt32BE(valuesAt + 2))
    this.#portal = text.replace('$1', value)
    return backend.bindComplete()
  }

  /** Null: it failed. */
  #run(text: string, isSimple: boolean): Buffer | null {
    if (text.includes('default_transaction_read_only')) {
      this.isReadOnly = text.startsWith('SET')
      return backend.commandComplete(text.startsWith('SET') ? 'SET' : 'RESET')
    }
    const nonce = Number(/(?:id = |\()(\d+)/.exec(text)?.[1] ?? 0)
    const isWrite = text.startsWith('INSERT') || text.includes('FROM w')
    this.#sqlstate = isWrite && this.isReadOnly ? '25006' : '22012'
    if ((isWrite && this.isReadOnly) || nonce === 0) return null
    if (isWrite) this.written.set(nonce, (this.written.get(nonce) ?? 0) + 1)
    if (text.startsWith('INSERT')) return backend.commandComplete('INSERT 0 1')
    return Buffer.concat([
      ...(isSimple ? [backend.rowDescription([{ name: 'nonce' }])] : []),
      backend.dataRow([`nonce ${nonce}`]),
      backend.commandComplete('SELECT 1'),
    ])
  }
}
