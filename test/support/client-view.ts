/**
 * A client that minds the protocol as libpq does: it remembers what it sent, refuses a reply that is not
 * due, and takes down what it was told, one group per ReadyForQuery. Independent of src/.
 */
import { errorFields, frames } from './bytes.ts'

export interface Group {
  /** Of the first error, or null. */
  readonly sqlstate: string | null
  readonly tags: readonly string[]
  /** Type letters of what is not asynchronous. */
  readonly types: string
  readonly status: string
  /** Numbers in parentheses in what it ran. */
  readonly ids: readonly number[]
  readonly texts: readonly string[]
}

type Due = 'Q' | 'F' | 'P' | 'B' | 'DS' | 'DP' | 'E' | 'C' | 'S'

const ASYNCHRONOUS = 'NSA'
/** What may come while a message is answered, and what ends its answer. */
const REPLIES: Readonly<Record<Due, { readonly during: string; readonly ends: string }>> = {
  Q: { during: 'TDCIHGdc', ends: '' },
  F: { during: 'V', ends: '' },
  P: { during: '', ends: '1' },
  B: { during: '', ends: '2' },
  DS: { during: 't', ends: 'Tn' },
  DP: { during: '', ends: 'Tn' },
  E: { during: 'DHGdc', ends: 'CIs' },
  C: { during: '', ends: '3' },
  S: { during: '', ends: '' },
}

export class ClientView {
  readonly groups: Group[] = []
  /** FATAL: the server said that this is the end. */
  fatal: string | null = null
  #rest: Buffer = Buffer.alloc(0)
  #unsent: Buffer = Buffer.alloc(0)
  readonly #due: Due[] = []
  readonly #asked: { ids: number[]; texts: string[] }[] = []
  #asking: { ids: number[]; texts: string[] } = { ids: [], texts: [] }
  readonly #statements = new Map<string, string>()
  readonly #portals = new Map<string, string>()
  #isSkipping = false
  /** A message that waits for a Sync was sent. */
  #isUnsynced = false
  #sqlstate: string | null = null
  #tags: string[] = []
  #types = ''

  /** ReadyForQuery messages that have not come. */
  get owed(): number {
    return this.#due.filter((due) => 'QFS'.includes(due)).length
  }

  /** Bytes of a message that is not whole. */
  get restBytes(): number {
    return this.#rest.length
  }

  get status(): string {
    return this.groups.at(-1)?.status ?? 'I'
  }

  sent(bytes: Buffer): void {
    const read = frames(Buffer.concat([this.#unsent, bytes]))
    this.#unsent = read.rest
    for (const { type, body } of read.frames) this.#sentMessage(type, body.toString('latin1'))
  }

  #sentMessage(type: string, body: string): void {
    if ('PBDEC'.includes(type)) this.#isUnsynced = true
    const [first = '', second = ''] = body.split('\0')
    if (type === 'Q') this.#asks(first)
    else if (type === 'P') this.#statements.set(first, second)
    else if (type === 'B') this.#portals.set(first, this.#statements.get(second) ?? '')
    else if (type === 'E') this.#asks(this.#portals.get(first) ?? '')
    if ('QFS'.includes(type)) {
      this.#asked.push(this.#asking)
      this.#asking = { ids: [], texts: [] }
      this.#isSkipping = false
      this.#isUnsynced = false
      this.#due.push(type as Due)
    } else if ('PBEC'.includes(type) && !this.#isSkipping) this.#due.push(type as Due)
    else if (type === 'D' && !this.#isSkipping) this.#due.push(`D${body.slice(0, 1)}` as Due)
  }

  #asks(text: string): void {
    this.#asking.texts.push(text)
    for (const [, id] of text.matchAll(/\((\d+)\)/g)) this.#asking.ids.push(Number(id))
  }

  got(bytes: Buffer): void {
    const read = frames(Buffer.concat([this.#rest, bytes]))
    this.#rest = read.rest
    for (const { type, body } of read.frames) this.#reply(type, body)
  }

  #reply(type: string, body: Buffer): void {
    if (this.fatal !== null) throw new Error(`${type} behind the end`)
    if (ASYNCHRONOUS.includes(type)) return
    this.#types += type
    if (type === 'E') return this.#error(errorFields(body))
    const [head] = this.#due
    if (head === undefined) throw new Error(`${this.#types}: nothing is due`)
    if (type === 'Z') return this.#ready(head, body.toString('latin1'))
    if (this.#sqlstate !== null) throw new Error(`${this.#types}: an answer behind an error`)
    const { during, ends } = REPLIES[head]
    if (!during.includes(type) && !ends.includes(type))
      throw new Error(`${this.#types}: ${type} does not answer ${head}`)
    if (type === 'C') this.#tags.push(body.toString('latin1', 0, body.length - 1))
    if (ends.includes(type)) this.#due.shift()
  }

  #error({ C: sqlstate = '', V: severity }: Record<string, string>): void {
    if (severity === 'FATAL') {
      this.fatal = sqlstate
      return
    }
    // It may answer a message that was sent in part, too.
    const isAsking = this.#due.length > 0 || this.#isUnsynced || this.#unsent.length > 0
    if (!isAsking) throw new Error(`${sqlstate} answers nothing`)
    if (this.#sqlstate !== null) throw new Error(`${sqlstate} behind ${this.#sqlstate}`)
    this.#sqlstate = sqlstate
    while (this.#due.length > 0 && !'QFS'.includes(this.#due[0] ?? '')) this.#due.shift()
    this.#isSkipping = this.#due.length === 0
  }

  #ready(head: Due, status: string): void {
    if (!'QFS'.includes(head)) throw new Error(`${this.#types}: ReadyForQuery while ${head} is due`)
    this.#due.shift()
    const { ids, texts } = this.#asked.shift() ?? { ids: [], texts: [] }
    const [sqlstate, tags, types] = [this.#sqlstate, this.#tags, this.#types]
    this.groups.push({ sqlstate, tags, types, status, ids, texts })
    this.#sqlstate = null
    this.#tags = []
    this.#types = ''
  }
}
