/**
 * The client's half of SCRAM-SHA-256 for tests, from RFC 5802 and RFC 7677, independent of src/auth.
 */
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'

const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest()
const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest()
const xor = (a: Buffer, b: Buffer): Buffer =>
  Buffer.from(a.map((byte, index) => byte ^ (b[index] ?? 0)))

const attribute = (text: string, name: string): string => {
  const found = text.split(',').find((part) => part.startsWith(`${name}=`))
  if (found === undefined) throw new Error(`SCRAM message without ${name}: ${text}`)
  return found.slice(2)
}

export class ScramClient {
  readonly #password: string
  readonly #nonce = randomBytes(18).toString('base64')
  #serverSignature = ''

  constructor(password: string) {
    this.#password = password
  }

  /** The client-first-message; PostgreSQL takes the user from the startup message. */
  get first(): string {
    return `n,,n=,r=${this.#nonce}`
  }

  final(serverFirst: string): string {
    const salt = Buffer.from(attribute(serverFirst, 's'), 'base64')
    const iterations = Number(attribute(serverFirst, 'i'))
    const salted = pbkdf2Sync(this.#password, salt, iterations, 32, 'sha256')
    const clientKey = hmac(salted, 'Client Key')
    const bare = `c=biws,r=${attribute(serverFirst, 'r')}`
    const authMessage = `n=,r=${this.#nonce},${serverFirst},${bare}`
    this.#serverSignature = hmac(hmac(salted, 'Server Key'), authMessage).toString('base64')
    const proof = xor(clientKey, hmac(sha256(clientKey), authMessage))
    return `${bare},p=${proof.toString('base64')}`
  }

  /** Throws when the server does not know the password's keys either. */
  verify(serverFinal: string): void {
    if (attribute(serverFinal, 'v') !== this.#serverSignature)
      throw new Error('the server could not prove that it knows the password')
  }
}
