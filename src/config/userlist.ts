/**
 * auth_file: `"user" "secret"`, one per line, `""` for a quote, lines with `;` are comments. The
 * secret is plain text, `md5...` or `SCRAM-SHA-256$...`; which of them is not decided here.
 *
 * Source: load_auth_file in PgBouncer's src/loader.c. What stands after the secret is ignored there
 * and here; that two names stand for one user is not an error, the last wins.
 */
import type { Problems } from './problem.ts'

/** PgBouncer's MAX_USERNAME and MAX_PASSWORD, without the closing zero byte. */
const USER_BYTES_MAX = 127
const SECRET_BYTES_MAX = 65_535

const LINE = /^"((?:[^"]|"")*)"[^"]*"((?:[^"]|"")*)"/

/** Secrets by user. What is wrong goes to `problems`, with the line and without the secret. */
export function readUserlist(
  file: string,
  text: string,
  problems: Problems,
): ReadonlyMap<string, string> {
  const secrets = new Map<string, string>()
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith(';')) continue
    const place = { file, line: index + 1 }
    const match = LINE.exec(line)
    if (match === null) {
      problems.add(place, 'broken auth file', 'a line is "user" "secret", with "" for a quote')
      continue
    }
    const user = unquote(match[1])
    const secret = unquote(match[2])
    if (Buffer.byteLength(user) > USER_BYTES_MAX) {
      problems.add(place, `user name is longer than ${USER_BYTES_MAX} bytes`)
    } else if (Buffer.byteLength(secret) > SECRET_BYTES_MAX) {
      problems.add(place, `secret is longer than ${SECRET_BYTES_MAX} bytes`)
    } else {
      secrets.set(user, secret)
    }
  }
  return secrets
}

function unquote(text = ''): string {
  return text.replaceAll('""', '"')
}
