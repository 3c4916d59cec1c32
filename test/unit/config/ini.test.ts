import { describe, expect, test } from 'vitest'
import { Files } from '../../../src/config/files.ts'
import { type Ini, readIni } from '../../../src/config/ini.ts'
import { ConfigError, Problems } from '../../../src/config/problem.ts'

/** Reads `/main.ini` from files that exist in this object only. */
function read(texts: Record<string, string>): { ini: Ini; problems: readonly string[] } {
  const files = new Files('/main.ini')
  files.read = (path) => {
    const text = texts[path]
    if (text === undefined) throw new Error('no such file')
    return text
  }
  const problems = new Problems()
  const ini = readIni('/main.ini', files, problems)
  try {
    problems.throwIfAny()
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return { ini, problems: error.message.split('\n') }
  }
  return { ini, problems: [] }
}

function pairs(text: string): readonly string[] {
  const { ini, problems } = read({ '/main.ini': text })
  expect(problems).toEqual([])
  return ini.entries.map(({ section, key, value }) => `${section}.${key}=${value}`)
}

describe('ini', () => {
  test('keys belong to the section above them and values run to the end of the line', () => {
    expect(pairs('[a]\nx = 1 2  \ny=\n[b]\nx\t=\t3=4\n')).toEqual(['a.x=1 2', 'a.y=', 'b.x=3=4'])
  })

  test('; and # start a comment at the start of a line only', () => {
    expect(pairs('; c\n  # c\n[a]\n  ; c\nx = 1 ; not # a comment\n')).toEqual([
      'a.x=1 ; not # a comment',
    ])
  })

  test('what follows a section header on its line is read as a line', () => {
    expect(pairs('[a] x = 1\n[b] ; comment\ny = 2')).toEqual(['a.x=1', 'b.y=2'])
  })

  test('line ends may be CR LF and the last one may be missing', () => {
    expect(pairs('[a]\r\nx = 1\r\ny = 2')).toEqual(['a.x=1', 'a.y=2'])
  })

  test('a name with other characters is quoted like an SQL identifier', () => {
    expect(pairs('[databases]\n"my ""db" = host=x\n* =\na.b-c_1 = \n')).toEqual([
      'databases.my "db=host=x',
      'databases.*=',
      'databases.a.b-c_1=',
    ])
  })

  test('a byte order mark before the first line is no part of it', () => {
    expect(pairs('\uFEFF[a]\nx = 1')).toEqual(['a.x=1'])
  })

  test('duplicate keys are all reported, in order', () => {
    expect(pairs('[a]\nx = 1\nx = 2\n')).toEqual(['a.x=1', 'a.x=2'])
  })

  test('an entry knows its file and line, also in an included file', () => {
    const { ini } = read({
      '/main.ini': '[a]\nx = 1\n%include /more.ini\nz = 3\n',
      '/more.ini': '\n\ny = 2\n[b]\n',
    })
    expect(ini.entries.map((entry) => [entry.section, entry.key, entry.file, entry.line])).toEqual([
      ['a', 'x', '/main.ini', 2],
      ['a', 'y', '/more.ini', 3],
      ['b', 'z', '/main.ini', 4],
    ])
  })

  test('every broken line is reported with its number and the rest is read', () => {
    const { ini, problems } = read({
      '/main.ini': 'early = 1\n[a\n[a]\nno value\n%unknown x\nx y = 1\n= 1\nz\0 = 1\nx = 1\n',
    })
    expect(problems).toEqual([
      '/main.ini:1: "early" stands before the first section (put it under [pgbouncer])',
      '/main.ini:2: section header "[a" without a closing ]',
      '/main.ini:4: syntax error at "no value" (a line is `key = value`, or begins with ; or #)',
      '/main.ini:5: unknown directive "%unknown x" (there is only %include FILE)',
      '/main.ini:6: syntax error at "x y " (a line is `key = value`, or begins with ; or #)',
      '/main.ini:7: syntax error at "" (a line is `key = value`, or begins with ; or #)',
      '/main.ini:8: the line holds a zero byte, this is not a text file',
    ])
    expect(ini.entries.map((entry) => entry.key)).toEqual(['x'])
  })

  test('a file that includes itself is an error, not a loop', () => {
    const { problems } = read({
      '/main.ini': '%include /a.ini\n',
      '/a.ini': '\n%include /main.ini\n',
    })
    expect(problems).toEqual(['/a.ini:2: "/main.ini" includes itself'])
  })

  test('includes are bounded in depth', () => {
    const texts: Record<string, string> = { '/main.ini': '%include /1.ini\n' }
    for (let n = 1; n <= 12; n += 1) texts[`/${n}.ini`] = `%include /${n + 1}.ini\n`
    expect(read(texts).problems).toEqual(['/9.ini:1: includes are nested more than 10 deep'])
  })

  test('includes are bounded in number', () => {
    const { problems } = read({
      '/main.ini': '%include /a.ini\n'.repeat(40),
      '/a.ini': '%include /b.ini\n'.repeat(40),
      '/b.ini': '',
    })
    expect(problems).toEqual(['/a.ini:16: too many includes'])
  })

  test('an included file that is not there is reported where it is included', () => {
    const { problems } = read({ '/main.ini': '\n%include /none.ini' })
    expect(problems).toEqual(['/main.ini:2: cannot read "/none.ini": no such file'])
  })
})
