/**
 * A raw protocol client over a socket, for playbooks: what is sent is exactly what the test says,
 * what arrives is kept as messages. Every wait has a deadline.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { errorFields, type Frame, frames, frontend, rowValues } from './bytes.ts'
import { ScramClient } from './scram.ts'

export interface WireOptions {
  readonly host?: string
  readonly port: number
  /** Unix socket instead of host and port. */
  readonly path?: string
  /** For every wait of this client. */
  readonly withinMs?: number
}

export interface LoginOptions {
  readonly user: string
  readonly database?: string
  readonly password?: string
  readonly parameters?: Readonly<Record<string, string>>
  readonly minor?: number
}

/** The messages up to a ReadyForQuery, with the usual questions answered. */
export class Answer {
  readonly frames: readonly Frame[]

  constructor(answer: readonly Frame[]) {
    this.frames = answer
  }

  /** Types in order, as in 'TDCZ'. */
  get types(): string {
    return this.frames.map((frame) => frame.type).join('')
  }

  get rows(): (string | null)[][] {
    return this.#of('D').map((frame) => rowValues(frame.body))
  }

  get tags(): string[] {
    return this.#of('C').map((frame) => frame.body.toString('utf8', 0, frame.body.length - 1))
  }

  /** Fields of the ErrorResponses, in order. */
  get errors(): Record<string, string>[] {
    return this.#of('E').map((frame) => errorFields(frame.body))
  }

  get notices(): Record<string, string>[] {
    return this.#of('N').map((frame) => errorFields(frame.body))
  }

  /** SQLSTATE of the first error; undefined if there was none. */
  get sqlstate(): string | undefined {
    return this.errors[0]?.['C']
  }

  /** Of the last ReadyForQuery; undefined if none came. */
  get status(): string | undefined {
    return this.#of('Z').at(-1)?.body.toString('latin1')
  }

  #of(type: string): Frame[] {
    return this.frames.filter((frame) => frame.type === type)
  }
}

export class WireClient {
  readonly socket: Socket
  readonly parameters = new Map<string, string>()
  /** Of BackendKeyData; the key is 4 bytes in protocol 3.0. */
  processId = 0
  key: Buffer = Buffer.alloc(0)
  readonly #withinMs: number
  #rest: Buffer = Buffer.alloc(0)
  readonly #inbox: Frame[] = []
  #wake: () => void = () => undefined
  #isEnded = false
  #error: Error | undefined

  constructor(socket: Socket, withinMs = 10_000) {
    this.socket = socket
    this.#withinMs = withinMs
    socket.on('data', (bytes: Buffer) => {
      const cut = frames(Buffer.concat([this.#rest, bytes]))
      this.#rest = cut.rest
      this.#inbox.push(...cut.frames)
      this.#wake()
    })
    socket.on('error', (error) => {
      this.#error = error
    })
    socket.on('close', () => {
      this.#isEnded = true
      this.#wake()
    })
  }

  /** Connects and sends nothing. */
  static async connect(options: WireOptions): Promise<WireClient> {
    const { host = '127.0.0.1', port, path, withinMs } = options
    const socket = path === undefined ? connect({ host, port, noDelay: true }) : connect({ path })
    await once(socket, 'connect', { signal: AbortSignal.timeout(withinMs ?? 10_000) })
    return new WireClient(socket, withinMs)
  }

  /** Connects and logs in; rejects with the server's error. */
  static async login(options: WireOptions & LoginOptions): Promise<WireClient> {
    const client = await WireClient.connect(options)
    const answer = await client.startup(options)
    const [error] = answer.errors
    if (error === undefined) return client
    client.destroy()
    throw new Error(`log-in failed: ${error['C']} ${error['M']}`)
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  send(...messages: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(messages))
  }

  /** Sends the startup message, proves the password as asked, returns everything up to ReadyForQuery or the end. */
  async startup(options: LoginOptions): Promise<Answer> {
    const { user, database = user, password = user, parameters = {}, minor = 0 } = options
    this.send(frontend.startup({ user, database, ...parameters }, 3, minor))
    const scram = new ScramClient(password)
    const seen: Frame[] = []
    for (;;) {
      const frame = await this.next()
      if (frame === undefined) return new Answer(seen)
      seen.push(frame)
      if (frame.type === 'R') this.#authenticate(frame.body, scram, password)
      if (frame.type === 'Z') return new Answer(seen)
    }
  }

  /** The next message; undefined when the connection ended. Rejects after the deadline. */
  async next(): Promise<Frame | undefined> {
    const deadline = performance.now() + this.#withinMs
    while (this.#inbox.length === 0) {
      if (this.#isEnded) return undefined
      await this.#untilWoken(deadline - performance.now())
    }
    return this.#take()
  }

  /** Everything up to and including the next message of one of these types, or the end. */
  async until(types: string): Promise<Answer> {
    const seen: Frame[] = []
    for (;;) {
      // What has arrived is taken without a turn of its own: answers come by the million.
      const frame = this.#take() ?? (await this.next())
      if (frame === undefined) return new Answer(seen)
      seen.push(frame)
      if (types.includes(frame.type)) return new Answer(seen)
    }
  }

  /** Everything up to the next ReadyForQuery, or the end. */
  ready(): Promise<Answer> {
    return this.until('Z')
  }

  query(sql: string): Promise<Answer> {
    this.send(frontend.query(sql))
    return this.ready()
  }

  /** Resolves when the other side has closed; what it said before stays readable. */
  async ended(): Promise<void> {
    const deadline = performance.now() + this.#withinMs
    while (!this.#isEnded) await this.#untilWoken(deadline - performance.now())
  }

  /** Says Terminate and waits for the end. */
  async close(): Promise<void> {
    if (this.#isEnded) return
    this.socket.end(frontend.terminate())
    await this.ended()
  }

  /** Cuts the connection without a word. */
  destroy(): void {
    this.socket.destroy()
  }

  #take(): Frame | undefined {
    const frame = this.#inbox.shift()
    if (frame !== undefined) this.#learn(frame)
    return frame
  }

  #authenticate(body: Buffer, scram: ScramClient, password: string): void {
    const rest = body.toString('utf8', 4)
    switch (body.readInt32BE(0)) {
      case 3:
        this.send(frontend.password(password))
        break
      case 10:
        this.send(frontend.saslInitial('SCRAM-SHA-256', scram.first))
        break
      case 11:
        this.send(frontend.saslResponse(scram.final(rest)))
        break
      case 12:
        scram.verify(rest)
        break
      default:
    }
  }

  #learn({ type, body }: Frame): void {
    if (type === 'S') {
      const [name = '', value = ''] = body.toString('utf8').split('\0')
      this.parameters.set(name, value)
    }
    if (type === 'K') {
      this.processId = body.readInt32BE(0)
      this.key = body.subarray(4)
    }
  }

  async #untilWoken(ms: number): Promise<void> {
    if (ms <= 0) throw new Error(`no message within ${this.#withinMs} ms`, { cause: this.#error })
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#wake = resolve
      timer = setTimeout(resolve, ms)
    })
    clearTimeout(timer)
  }
}
