/**
 * The architecture as one table, and the test that keeps it true.
 *
 * Read LAYERS from top to bottom: a folder may import itself and only the folders named in its row,
 * and from those only the files named in `public`. Imports of types count: a type that points up is
 * a dependency that points up. BANNED names what only some files may use, because it is what makes
 * the others testable: time, sockets, output, the end of the process.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve, sep } from 'node:path'
import { expect, test } from 'vitest'

interface Layer {
  readonly imports: readonly string[]
  /** Files other folders may import; `'*'` when the whole folder is its own interface. */
  readonly public: '*' | readonly string[]
}

const LAYERS: Readonly<Record<string, Layer>> = {
  base: { imports: [], public: '*' },
  wire: { imports: ['base'], public: '*' },
  config: { imports: ['base'], public: '*' },
  auth: { imports: ['base', 'config'], public: '*' },
  net: { imports: ['base', 'config'], public: '*' },
  cluster: { imports: ['base', 'config'], public: '*' },
  routing: { imports: ['base', 'config', 'cluster'], public: '*' },
  server: { imports: ['base', 'wire', 'config', 'auth', 'net', 'cluster'], public: '*' },
  client: {
    imports: ['base', 'wire', 'config', 'auth', 'net', 'cluster', 'routing', 'server'],
    public: '*',
  },
  admin: {
    imports: ['base', 'wire', 'config', 'cluster', 'routing', 'server', 'client'],
    public: '*',
  },
  http: { imports: ['base', 'config', 'cluster', 'server', 'client', 'admin'], public: '*' },
  demo: { imports: ['base'], public: [] },
  deploy: { imports: ['base'], public: ['cluster.ts'] },
}
/** Files directly in src/: the composition roots. They may import anything; nothing imports them but they. */
const ROOT = ''

interface Ban {
  readonly what: string
  /** Looked for in the code without its strings. */
  readonly pattern?: RegExp
  /** Modules that may not be imported. */
  readonly modules?: RegExp
  readonly isAllowed: (file: string) => boolean
}

const inFolder =
  (...folders: string[]) =>
  (file: string): boolean =>
    folders.includes(folderOf(file))

/** Values that open nothing and may be used anywhere. */
const PURE_NET = new Set(['isIP', 'isIPv4', 'isIPv6', 'BlockList', 'SocketAddress'])

const BANNED: readonly Ban[] = [
  {
    what: 'reads or waits for time without a Clock',
    modules: /^node:timers/,
    pattern: /\b(?:Date\.now|new Date\(\)|setTimeout|setInterval)\b/,
    // A Clock's timers keep nobody alive; the supervisor has to live until it starts a child again.
    isAllowed: (file) => file === 'base/clock.ts' || file === 'main.ts' || inFolder('demo')(file),
  },
  {
    // The probe hands pg its socket, to cut it at the deadline; no client's statement goes there.
    what: 'opens sockets outside net/',
    modules: /^node:(?:net|tls|dgram)$/,
    isAllowed: (file) => file === 'cluster/direct.ts' || inFolder('net', 'demo', ROOT)(file),
  },
  {
    what: 'writes to the console instead of the log',
    pattern: /\bconsole\.\w/,
    isAllowed: (file) => file === 'cli.ts' || inFolder('demo')(file),
  },
  {
    what: 'knows Prometheus outside http/metrics.ts',
    modules: /^prom-client$/,
    isAllowed: (file) => file === 'http/metrics.ts',
  },
  {
    what: 'ends the process, which is for the files in src/ to do',
    pattern: /\bprocess\.(?:exit|abort|kill)\b/,
    isAllowed: inFolder('demo', ROOT),
  },
]

const SRC = resolve(import.meta.dirname, '../src')
const IMPORT =
  /^\s*(?:import|export)\b[^'"]*?\bfrom\s+['"](\.[^'"]+)['"]|^\s*import\s+['"](\.[^'"]+)['"]|\bimport\(\s*['"](\.[^'"]+)['"]/gm
const NET_IMPORT = /import\s+(type\s+)?(?:\w+|\{([^}]*)\})\s+from\s+'node:(?:net|tls)'/g

const MODULE = /\bfrom\s+'([^'.][^']*)'|\bimport\(\s*'([^'.][^']*)'/g

/** Of a path below src/. */
function folderOf(file: string): string {
  const [first = ROOT, ...rest] = file.split(sep)
  return rest.length === 0 ? ROOT : first
}

function whyForbidden(from: string, target: string): string | undefined {
  const [here, there] = [folderOf(from), folderOf(target)]
  if (here === there) return undefined
  if (there === ROOT) return 'imports a composition root'
  const layer = LAYERS[there]
  if (layer === undefined) return `unknown folder ${there}`
  if (here !== ROOT && LAYERS[here]?.imports.includes(there) !== true)
    return `${here} may not import ${there}`
  if (here !== ROOT && layer.public !== '*' && !layer.public.includes(basename(target)))
    return `${basename(target)} is private to ${there}`
  return undefined
}

/** Each string or comment is replaced by what `keep` makes of it. */
function replaced(text: string, keep: (string: string | undefined) => string): string {
  return text.replace(
    /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\/[^\n]*|\/\*[\s\S]*?\*\//g,
    (_, string: string | undefined) => keep(string),
  )
}

/** Without comments; strings stay, because they name modules. */
const codeOf = (text: string): string => replaced(text, (string) => string ?? '')

/** Without comments and strings, but with the expressions inside of templates. */
const wordsOf = (text: string): string =>
  replaced(text, (string) => (string?.match(/\$\{[^}]*\}/g) ?? []).join(' '))

/** Imports of types, and of values that open nothing, are none of the ban's business. */
function withoutPureNet(code: string): string {
  return code.replace(NET_IMPORT, (whole, type?: string, names?: string) => {
    const rest = (names ?? 'all')
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '' && !name.startsWith('type ') && !PURE_NET.has(name))
    return type !== undefined || rest.length === 0 ? '' : whole
  })
}

/** What is wrong with one file, by its path below src/ and its text. */
function violationsOf(file: string, text: string): { imports: number; found: string[] } {
  const code = codeOf(text)
  const found: string[] = []
  let imports = 0
  for (const match of code.matchAll(IMPORT)) {
    const path = match[1] ?? match[2] ?? match[3] ?? ''
    const target = relative(SRC, resolve(SRC, dirname(file), path))
    imports += 1
    const why = whyForbidden(file, target)
    if (why !== undefined) found.push(`${file}: ${why}`)
  }
  const modules = Array.from(
    withoutPureNet(code).matchAll(MODULE),
    ([, from, dynamic]) => from ?? dynamic ?? '',
  )
  const words = wordsOf(text)
  for (const ban of BANNED) {
    const isFound =
      ban.pattern?.test(words) === true || modules.some((name) => ban.modules?.test(name) === true)
    if (isFound && !ban.isAllowed(file)) found.push(`${file}: ${ban.what}`)
  }
  return { imports, found }
}

test('the table itself only points down', () => {
  const order = Object.keys(LAYERS)
  for (const [name, layer] of Object.entries(LAYERS)) {
    for (const below of layer.imports)
      expect(order.indexOf(below), `${name} -> ${below}`).toBeLessThan(order.indexOf(name))
    expect([...layer.imports], name).not.toContain(name)
  }
})

test('every folder of src has a row', () => {
  const folders = readdirSync(SRC, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  expect(folders.map((entry) => entry.name).filter((name) => LAYERS[name] === undefined)).toEqual(
    [],
  )
})

test('every file in src obeys the table and the bans', () => {
  const names = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  const files = names.filter((name) => name.endsWith('.ts'))
  const results = files.map((file) => violationsOf(file, readFileSync(join(SRC, file), 'utf8')))
  // A rule that looked at nothing has proved nothing.
  expect(files.length).toBeGreaterThan(20)
  expect(results.reduce((sum, result) => sum + result.imports, 0)).toBeGreaterThan(20)
  expect(results.flatMap((result) => result.found)).toEqual([])
})

test.each([
  ['wire/frame.ts', "import { Session } from '../client/session.ts'", 'wire may not import client'],
  ['wire/frame.ts', "import type { A } from '../client/a.ts'", 'wire may not import client'],
  ['wire/frame.ts', "export type { A } from '../net/a.ts'", 'wire may not import net'],
  ['server/pool.ts', "import '../routing/route.ts'", 'server may not import routing'],
  ['server/pool.ts', "await import('../worker.ts')", 'imports a composition root'],
  ['server/pool.ts', "import { x } from '../utils/x.ts'", 'unknown folder utils'],
  [
    'client/a.ts',
    "import { EmbeddedCluster } from '../demo/cluster.ts'",
    'client may not import demo',
  ],
  ['client/a.ts', 'const t = Date.now()', 'reads or waits for time without a Clock'],
  ['client/a.ts', 'setTimeout(run, 10)', 'reads or waits for time without a Clock'],
  ['server/a.ts', "import { connect } from 'node:net'", 'opens sockets outside net/'],
  ['server/a.ts', "import { isIP, connect } from 'node:net'", 'opens sockets outside net/'],
  ['http/app.ts', "console.log('here')", 'writes to the console instead of the log'],
  [
    'admin/a.ts',
    "import { Counter } from 'prom-client'",
    'knows Prometheus outside http/metrics.ts',
  ],
  [
    'http/a.ts',
    "const { Registry } = await import('prom-client')",
    'knows Prometheus outside http/metrics.ts',
  ],
  ['http/a.ts', 'const text = `at ${Date.now()}`', 'reads or waits for time without a Clock'],
  [
    'client/a.ts',
    "import { setTimeout } from 'node:timers/promises'",
    'reads or waits for time without a Clock',
  ],
  ['cluster/a.ts', 'process.exit(1)', 'ends the process, which is for the files in src/ to do'],
])('a seeded violation is caught: %s with %s', (file, text, why) => {
  expect(violationsOf(file, text).found).toEqual([`${file}: ${why}`])
})

test.each([
  ['client/session.ts', "import { Pools } from '../server/pools.ts'"],
  ['worker.ts', "import { Clients } from './client/clients.ts'"],
  ['base/clock.ts', 'const t = Date.now()'],
  ['auth/hba.ts', "import { BlockList, isIP } from 'node:net'"],
  ['client/relay.ts', "import type { Socket } from 'node:net'"],
  ['http/page.ts', 'const script = `setTimeout(turn, 1000)`'],
  ['worker.ts', "import { Session } from './admin/console.ts'"],
  ['client/relay.ts', '// Date.now() is what this does not call'],
])('what is allowed is not reported: %s with %s', (file, text) => {
  expect(violationsOf(file, text).found).toEqual([])
})
