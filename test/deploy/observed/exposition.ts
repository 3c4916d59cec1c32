/**
 * Prometheus' text format, as much of it as the tests need: which metrics there are, of which type, with which
 * labels and values of labels. `condensed` keeps a scrape small enough to be committed: a few samples of each
 * metric, and no values that change from run to run and that nobody looks up.
 */

export interface Sample {
  readonly name: string
  readonly labels: ReadonlyMap<string, string>
}

export interface Exposition {
  readonly types: ReadonlyMap<string, string>
  readonly samples: readonly Sample[]
}

const SAMPLES_MAX = 12
const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/

export function parseExposition(text: string): Exposition {
  const types = new Map<string, string>()
  const samples: Sample[] = []
  for (const line of text.split('\n')) {
    const type = /^# TYPE (\S+) (\S+)/.exec(line)
    if (type?.[1] !== undefined) types.set(type[1], type[2] ?? '')
    const [, name, labels = ''] = line.startsWith('#') ? [] : (LINE.exec(line) ?? [])
    if (name !== undefined) samples.push({ name, labels: labelsOf(labels) })
  }
  return { types, samples }
}

function labelsOf(text: string): ReadonlyMap<string, string> {
  const pairs = text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)
  return new Map([...pairs].map(([, name = '', value = '']) => [name, value]))
}

/** One text of several scrapes of the same program, with at most a dozen samples of each metric. */
export function condensed(texts: readonly string[]): string {
  const lines = texts.flatMap((text) => text.split('\n'))
  const heads = new Map<string, string>()
  const samples = new Map<string, Set<string>>()
  for (const line of lines) {
    const type = /^# TYPE (\S+) /.exec(line)
    if (type?.[1] !== undefined) heads.set(type[1], line)
    const [, name, labels] = line.startsWith('#') ? [] : (LINE.exec(line) ?? [])
    if (name === undefined) continue
    const of = samples.get(name) ?? new Set()
    samples.set(name, of)
    if (of.size < SAMPLES_MAX) of.add(withoutAddresses(labels))
  }
  const types = [...heads.keys()].toSorted().map((name) => heads.get(name) ?? '')
  const kept = [...samples].toSorted(([a], [b]) => (a < b ? -1 : 1))
  return `${[...types, ...kept.flatMap(([name, of]) => [...of].map((one) => `${name}${one} 1`))].join('\n')}\n`
}

function withoutAddresses(labels: string | undefined): string {
  return labels === undefined ? '' : `{${labels.replaceAll(/127\.0\.0\.1:\d+/g, '127.0.0.1:1')}}`
}
