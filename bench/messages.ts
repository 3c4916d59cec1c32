/**
 * Messages that clients of the benchmarks send by themselves.
 */

export function query(text: string): Buffer {
  const body = Buffer.from(`${text}\0`, 'latin1')
  const bytes = Buffer.alloc(5 + body.length)
  bytes[0] = 0x51
  bytes.writeInt32BE(4 + body.length, 1)
  body.copy(bytes, 5)
  return bytes
}

export function startup(user: string, database: string): Buffer {
  const body = Buffer.from(`\0\x03\0\0user\0${user}\0database\0${database}\0\0`, 'latin1')
  const bytes = Buffer.alloc(4 + body.length)
  bytes.writeInt32BE(bytes.length, 0)
  body.copy(bytes, 4)
  return bytes
}

export const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])
