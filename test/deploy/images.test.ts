/**
 * The Dockerfiles: a linter for Dockerfiles accepts them, and they obey a few rules of ours, each of
 * which is broken once. Building them is `npm run image` and the Swarm suite.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { validate } from 'dockerfile-utils'
import { expect, test } from 'vitest'

const ROOT = resolve(import.meta.dirname, '../..')

/** What is shipped; test/swarm/images makes images for tests, in place of official ones. */
const FILES = [
  'Dockerfile',
  ...readdirSync(join(ROOT, 'deploy/images'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /(?:^|\/)Dockerfile$/.test(name))
    .map((name) => join('deploy/images', name)),
]

interface Instruction {
  readonly word: string
  readonly rest: string
}

/** Instructions with continued lines joined and comments left out. */
function instructions(text: string): Instruction[] {
  const lines = text
    .replaceAll(/^\s*#.*\n/gm, '')
    .replaceAll(/\\\n/g, ' ')
    .split('\n')
  return lines
    .map((line) => /^\s*(\w+)\s+(.*)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, word = '', rest = '']) => ({ word: word.toUpperCase(), rest: rest.trim() }))
}

interface ImageRule {
  readonly says: string
  /** What breaks it, if anything does. */
  readonly fault: (all: readonly Instruction[]) => string | undefined
  /** A change of a good Dockerfile that breaks it. */
  readonly seeded: (text: string) => string
}

const SECRET = /PASS|SECRET|TOKEN|(?:^|_)KEY/

const GOOD = `ARG BASE=debian:trixie-20260101-slim
FROM \${BASE} AS build
RUN true
FROM scratch
COPY --from=build /etc/passwd /etc/passwd
COPY entry /entry
ENV LANG=C.UTF-8
USER 999
STOPSIGNAL SIGTERM
ENTRYPOINT ["/entry"]
`

const RULES: readonly ImageRule[] = [
  {
    says: 'every base is pinned by more than a moving word, or is scratch or a stage',
    fault: (all) => bases(all).find((base) => !isPinned(base)),
    seeded: (text) => text.replace('debian:trixie-20260101-slim', 'debian:latest'),
  },
  {
    says: 'a base has a tag',
    fault: (all) => bases(all).find((base) => base !== 'scratch' && !base.includes(':')),
    seeded: (text) => text.replace('debian:trixie-20260101-slim', 'debian'),
  },
  {
    says: 'the last user is not root',
    fault: (all) => {
      const user = all.findLast(({ word }) => word === 'USER')?.rest ?? 'root'
      return /^(?:root|0)(?::|$)/.test(user) ? `USER ${user}` : undefined
    },
    seeded: (text) => text.replace('USER 999\n', ''),
  },
  {
    says: 'nothing comes from a URL by ADD, nor by a pipe into a shell',
    fault: (all) =>
      all.find(
        ({ word, rest }) =>
          (word === 'ADD' && /\w+:\/\//.test(rest)) ||
          (word === 'RUN' && /\b(?:curl|wget)\b[^;&]*\|\s*(?:ba|da)?sh\b/.test(rest)),
      )?.rest,
    seeded: (text) => text.replace('RUN true', 'RUN curl -fsS https://example.org/it | sh'),
  },
  {
    says: 'no secret is an ARG or in the environment',
    fault: (all) =>
      all.find(
        ({ word, rest }) => ['ARG', 'ENV'].includes(word) && rest.split(/\s+/).some(isSecret),
      )?.rest,
    seeded: (text) => text.replace('ENV LANG=C.UTF-8', 'ENV LANG=C.UTF-8 PGPASSWORD=it'),
  },
  {
    says: 'commands are lists of words, so that signals reach the program',
    fault: (all) =>
      all.find(({ word, rest }) => ['CMD', 'ENTRYPOINT'].includes(word) && !rest.startsWith('['))
        ?.rest,
    seeded: (text) => text.replace('["/entry"]', '/entry'),
  },
  {
    says: 'the signal that stops it is said',
    fault: (all) => (all.some(({ word }) => word === 'STOPSIGNAL') ? undefined : 'no STOPSIGNAL'),
    seeded: (text) => text.replace('STOPSIGNAL SIGTERM\n', ''),
  },
  {
    says: 'what apt-get fetched for its lists is removed in the same layer, and nothing recommended is installed',
    fault: (all) =>
      all.find(
        ({ word, rest }) =>
          word === 'RUN' &&
          /apt-get install/.test(rest) &&
          !(
            /rm -rf [^&]*\/var\/lib\/apt\/lists/.test(rest) && /--no-install-recommends/.test(rest)
          ),
      )?.rest,
    seeded: (text) => text.replace('RUN true', 'RUN apt-get update && apt-get install -y curl'),
  },
]

function isSecret(assignment: string): boolean {
  const [name = ''] = assignment.split('=')
  return SECRET.test(name) && !name.endsWith('_FILE')
}

/** What stages are made from, with the defaults of ARGs put in. */
function bases(all: readonly Instruction[]): string[] {
  const given = new Map(
    all
      .filter(({ word }) => word === 'ARG')
      .map(({ rest }) => {
        const [name = '', ...value] = rest.split('=')
        return [name, value.join('=')] as const
      }),
  )
  const from = all.filter(({ word }) => word === 'FROM').map(({ rest }) => rest.split(/\s+/))
  const stages = new Set(from.map(([, as, name]) => (/^as$/i.test(as ?? '') ? name : undefined)))
  return from
    .map(([image = '']) =>
      image.replace(/\$\{?(\w+)\}?/g, (_, name: string) => given.get(name) ?? ''),
    )
    .filter((image) => !stages.has(image))
}

/** By a digest, or by a version; of Debian, a release's name is one: its tags get security fixes alone. */
function isPinned(base: string): boolean {
  return base === 'scratch' || /@sha256:|:\d+\.\d+|:(?:bookworm|trixie)\b|^[^:]*$/.test(base)
}

const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8')

test.each(FILES)('the linter accepts %s', (file) => {
  // Severity 1 is an error, 2 a warning.
  const found = validate(read(file)).map(
    ({ range, message }) => `${range.start.line + 1}: ${JSON.stringify(message)}`,
  )
  expect(found).toEqual([])
})

test('the linter sees a fault', () => {
  expect(validate(GOOD)).toEqual([])
  expect(validate(GOOD.replace('USER 999', 'USR 999'))).not.toEqual([])
})

test.each(RULES)('$says', ({ fault, seeded }) => {
  for (const file of FILES)
    expect(fault(instructions(read(file))), relative('.', file)).toBeUndefined()
  expect(fault(instructions(GOOD))).toBeUndefined()
  expect(fault(instructions(seeded(GOOD)))).toBeTypeOf('string')
})
