/**
 * PostgreSQL's md5 password exchange, both sides. Kept because servers and clients still use it;
 * SCRAM is what should be used.
 */
import { createHash } from 'node:crypto'

/** The stored form: `md5` + md5(password + user), as in pg_authid. */
export function md5Hash(password: string, user: string): string {
  return `md5${md5Hex(Buffer.from(password + user))}`
}

/**
 * The answer to an AuthenticationMD5Password challenge: `md5` + md5(digits of `hash` + salt).
 *
 * Source  pg_md5_encrypt in src/common/md5_common.c; `salt` has 4 bytes.
 */
export function md5Response(hash: string, salt: Buffer): string {
  return `md5${md5Hex(Buffer.concat([Buffer.from(hash.slice(3)), salt]))}`
}

function md5Hex(bytes: Buffer): string {
  return createHash('md5').update(bytes).digest('hex')
}
