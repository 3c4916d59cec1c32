/**
 * A replication connection: one client, one server, bytes both ways untouched. Whoever ends first
 * takes the other along.
 */
import type { ProxyError } from '../base/errors.ts'
import type { Channel, Receiver } from '../net/channel.ts'
import type { Holder, ServerConnection } from '../server/connection.ts'

export class Passthrough implements Receiver, Holder {
  readonly #client: Channel
  readonly #onEnd: () => void
  #server: ServerConnection | null = null
  #isEnded = false

  constructor(client: Channel, onEnd: () => void) {
    this.#client = client
    this.#onEnd = onEnd
  }

  /** The server is this client's from here on. */
  begin(server: ServerConnection): void {
    this.#server = server
    this.#client.attach(this)
  }

  get server(): ServerConnection | null {
    return this.#server
  }

  onBytes(chunk: Buffer): void {
    if (this.#server?.write(chunk) === false) this.#client.pause()
  }

  onDrain(): void {
    this.#server?.channel.resume()
  }

  onClosed(): void {
    this.#end()
    this.#server?.close()
  }

  onServerBytes(chunk: Buffer): void {
    if (!this.#client.write(chunk)) this.#server?.channel.pause()
  }

  onServerDrain(): void {
    this.#client.resume()
  }

  onServerClosed(_error: ProxyError): void {
    this.#end()
    this.#client.close()
  }

  #end(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#onEnd()
  }
}
