/**
 * SASLprep (RFC 4013) as PostgreSQL applies it to passwords: pure ASCII passes unchanged, and a
 * password that the profile refuses is used as it is. Code points that Unicode 3.2 had not assigned
 * are not looked for: Node holds no such table, and NFKC leaves nearly all of them unchanged.
 *
 * Source  pg_saslprep in src/common/saslprep.c.
 */

// biome-ignore format: one range a line reads worse
/* oxlint-disable no-control-regex, no-misleading-character-class -- the tables of RFC 3454 are such ranges */
const ASCII = /^[\x00-\x7f]*$/
/** Table C.1.2: spaces that become U+0020. */
const SPACES = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/g
/** Table B.1: commonly mapped to nothing. */
const NOTHING = /[\u00ad\u034f\u1806\u180b-\u180d\u200c\u200d\u2060\ufe00-\ufe0f\ufeff]/g
/** Tables C.2.1, C.2.2 and C.3 to C.9: control, private use, surrogates, tags and the like. */
const PROHIBITED =
  /[\u0000-\u001f\u007f-\u009f\u06dd\u070f\u180e\u200c-\u200f\u2028-\u202e\u2060-\u2063\u206a-\u206f\u2ff0-\u2ffb\u0340\u0341\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufeff\ufff9-\uffff\u{1d173}-\u{1d17a}\u{1fffe}\u{1ffff}\u{e0001}\u{e0020}-\u{e007f}\u{f0000}-\u{10ffff}]/u
/** Table D.1, by script: right-to-left letters. */
const RIGHT_TO_LEFT =
  /[\u05be\u05c0\u05c3\u05d0-\u05f4\u061b-\u06ff\u0700-\u07bf\u200f\ufb1d-\ufdfc\ufe70-\ufefc]/u
/** Table D.2, near enough: letters that are not right-to-left. */
const LEFT_TO_RIGHT = /(?![\u0590-\u07bf\ufb1d-\ufdff\ufe70-\ufefc])\p{L}/u
/* oxlint-enable no-control-regex, no-misleading-character-class */

/** The password as SCRAM hashes it. */
export function saslprep(password: string): string {
  if (ASCII.test(password)) return password
  const mapped = password.replace(SPACES, ' ').replace(NOTHING, '').normalize('NFKC')
  if (mapped === '' || PROHIBITED.test(mapped) || !isBidiSound(mapped)) return password
  return mapped
}

/** RFC 3454, section 6: right-to-left text begins and ends so and holds nothing else. */
function isBidiSound(text: string): boolean {
  if (!RIGHT_TO_LEFT.test(text)) return true
  if (LEFT_TO_RIGHT.test(text)) return false
  const characters = Array.from(text)
  return RIGHT_TO_LEFT.test(characters[0] ?? '') && RIGHT_TO_LEFT.test(characters.at(-1) ?? '')
}
