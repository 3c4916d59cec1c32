import { describe, expect, test } from 'vitest'
import { ConfigError, Problems } from '../../../src/config/problem.ts'
import { readUserlist } from '../../../src/config/userlist.ts'

function read(text: string): { users: object; problems: string } {
  const problems = new Problems()
  const users = Object.fromEntries(readUserlist('users.txt', text, problems))
  try {
    problems.throwIfAny()
  } catch (error) {
    return { users, problems: error instanceof ConfigError ? error.message : 'other error' }
  }
  return { users, problems: '' }
}

describe('userlist', () => {
  test('plain, md5 and SCRAM secrets are kept as they are', () => {
    const scram = 'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy'
    expect(read(`"a" "plain"\n"b" "md5abc"\n"c" "${scram}"\n`)).toEqual({
      users: { a: 'plain', b: 'md5abc', c: scram },
      problems: '',
    })
  })

  test('a doubled quote stands for one', () => {
    expect(read('"o""b" "x""""y"').users).toEqual({ 'o"b': 'x""y' })
  })

  test('comments, empty lines and what follows the secret are ignored', () => {
    expect(read('; c\n\n  "a" "1" extra ; words\r\n').users).toEqual({ a: '1' })
  })

  test('secrets may be empty and hold blanks and semicolons', () => {
    expect(read('"a" ""\n"b" " ;x "').users).toEqual({ a: '', b: ' ;x ' })
  })

  test('the last of two entries of a user wins', () => {
    expect(read('"a" "1"\n"a" "2"').users).toEqual({ a: '2' })
  })

  test('a broken line is reported by number, without its text', () => {
    const { users, problems } = read('"a" "1"\nb geheim\n"c" "open\n"d" "4"')
    expect(problems).toBe(
      'users.txt:2: broken auth file (a line is "user" "secret", with "" for a quote)\n' +
        'users.txt:3: broken auth file (a line is "user" "secret", with "" for a quote)',
    )
    expect(users).toEqual({ a: '1', d: '4' })
  })

  test('names and secrets are bounded in bytes', () => {
    const { users, problems } = read(`"${'ü'.repeat(64)}" "x"\n"a" "${'x'.repeat(65_536)}"\n`)
    expect(problems).toBe(
      'users.txt:1: user name is longer than 127 bytes\nusers.txt:2: secret is longer than 65535 bytes',
    )
    expect(users).toEqual({})
  })
})
