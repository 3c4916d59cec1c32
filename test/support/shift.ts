/**
 * A seeded fault: connections through it reach a server, and now and then what the server says to one
 * client is swapped with what it says to the next. Whoever claims to see such a thing has to see this.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'

/** Pieces of an answer that pass unharmed before two of them are swapped. */
const UNHARMED = 2000
/** ReadyForQuery of a client that is idle, at the end of a whole answer. */
const READY = Buffer.from('Z\0\0\0\x05I', 'latin1')

export class Shifting {
  readonly #server: Server
  #passed = 0
  #kept: { readonly client: Socket; readonly bytes: Buffer } | null = null
  swaps = 0

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#server = createServer({ noDelay: true }, (client) => {
      const server = connect({ host: target.host, port: target.port, noDelay: true })
      client.on('error', () => server.destroy())
      server.on('error', () => client.destroy())
      client.on('close', () => server.destroy())
      server.on('close', () => client.destroy())
      client.pipe(server)
      server.on('data', (bytes: Buffer) => this.#answer(client, bytes))
    })
  }

  static async before(target: { readonly host: string; readonly port: number }): Promise<Shifting> {
    const shifting = new Shifting(target)
    await new Promise<void>((resolve) => shifting.#server.listen(0, '127.0.0.1', resolve))
    return shifting
  }

  get host(): string {
    return '127.0.0.1'
  }

  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  close(): void {
    this.#server.close()
  }

  #answer(client: Socket, bytes: Buffer): void {
    this.#passed += 1
    const isWhole = bytes[0] === 0x54 && bytes.subarray(-READY.length).equals(READY)
    const kept = this.#kept
    if (!isWhole || this.#passed < UNHARMED || this.swaps > 0 || kept?.client === client) {
      client.write(bytes)
    } else if (kept === null) {
      this.#kept = { client, bytes: Buffer.from(bytes) }
    } else {
      this.#kept = null
      this.swaps += 1
      client.write(kept.bytes)
      kept.client.write(bytes)
    }
  }
}
