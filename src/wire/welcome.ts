/**
 * What a client is sent while it logs in, as whole frames. Source: PostgreSQL manual, "Message
 * Formats".
 */
import * as frame from './frame.ts'
import { fixed } from './messages.ts'

/** The answers to SSLRequest and GSSENCRequest: one byte without a frame. */
export const ENCRYPTION_YES = Buffer.from('S')
export const ENCRYPTION_NO = Buffer.from('N')

export function authenticationCleartextPassword(): Buffer {
  return authentication(3)
}

export function authenticationMd5Password(salt: Buffer): Buffer {
  return authentication(5, salt)
}

export function authenticationSasl(mechanisms: readonly string[]): Buffer {
  return authentication(10, Buffer.from(`${mechanisms.map((name) => `${name}\0`).join('')}\0`))
}

export function authenticationSaslContinue(text: string): Buffer {
  return authentication(11, Buffer.from(text))
}

export function authenticationSaslFinal(text: string): Buffer {
  return authentication(12, Buffer.from(text))
}

/**
 * NegotiateProtocolVersion: our newest minor version as a whole protocol number, as PostgreSQL
 * sends it, and the protocol options that we do not know.
 */
export function negotiateProtocolVersion(minor: number, unknown: readonly string[]): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt16BE(3, 0)
  head.writeUInt16BE(minor, 2)
  head.writeInt32BE(unknown.length, 4)
  const names = Buffer.from(unknown.map((name) => `${name}\0`).join(''))
  return fixed(frame.NEGOTIATE_VERSION, Buffer.concat([head, names]))
}

function authentication(code: number, rest: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.allocUnsafe(frame.HEADER_BYTES + 4 + rest.length)
  bytes[0] = frame.AUTHENTICATION
  bytes.writeInt32BE(8 + rest.length, 1)
  bytes.writeInt32BE(code, frame.HEADER_BYTES)
  rest.copy(bytes, frame.HEADER_BYTES + 4)
  return bytes
}
