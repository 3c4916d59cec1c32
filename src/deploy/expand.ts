/**
 * Makes the files for three members into files for other members. The files are written by hand, for slots
 * 1, 2 and 3; whatever stands there once per slot (a service, a volume, an item of a list, a host in a
 * string, a line of an ini file) is found by comparing it with its sibling of another slot, and made again
 * for further slots or left out for missing ones. Comments stay. Knows names, not what they mean.
 */
import { isCollection, isMap, isNode, isScalar, isSeq, type Node, type Pair, visit } from 'yaml'
import { invariant } from '../base/invariant.ts'
import { documentText, readDocument } from './yaml.ts'

/** Which slots the cluster has. */
export interface Slots {
  readonly members: readonly number[]
  readonly etcd: readonly number[]
}

interface Family {
  /** A name with its slot's number: $1 is before the number, $2 the number. */
  readonly token: RegExp
  readonly wanted: readonly number[]
}

/** The slots that the files are written for, and the one of them that is copied for further slots. */
const WRITTEN: readonly number[] = [1, 2, 3]
const PATTERN = 3

/** The text of `file` for these slots; unchanged for slots 1 to 3. */
export function expand(file: string, text: string, slots: Slots): string {
  // A file without slots stays as it is: it may be a template that is no YAML yet.
  const families = familiesOf(slots).filter(
    ({ wanted, token }) => wanted.join() !== WRITTEN.join() && text.search(token) >= 0,
  )
  if (families.length === 0) return text
  return /\.ya?ml$/.test(file)
    ? families.reduce(expandYaml, text)
    : families.reduce(expandText, text)
}

function familiesOf({ members, etcd }: Slots): Family[] {
  return [
    {
      token: /(?<![a-z0-9])((?:patroni|agent|exporter|pg|pg\.slot ?== ?)_?)(\d+)(?!\d)/gi,
      wanted: members,
    },
    { token: /(?<![a-z0-9])((?:etcd|etcd\.slot ?== ?)_?)(\d+)(?!\d)/gi, wanted: etcd },
  ]
}

function renumbered(text: string, { token }: Family, from: number, to: number): string {
  return text.replace(token, (whole, before: string, number: string) =>
    Number(number) === from ? `${before}${to}` : whole,
  )
}

/** The slot that `text` belongs to, if `exists` says that a sibling of another slot is there. */
function slotOf(
  text: string,
  family: Family,
  exists: (sibling: string) => boolean,
): number | undefined {
  for (const [, , number] of text.matchAll(family.token)) {
    const slot = Number(number)
    const others = WRITTEN.filter((other) => other !== slot)
    if (
      WRITTEN.includes(slot) &&
      others.some((other) => exists(renumbered(text, family, slot, other)))
    )
      return slot
  }
  return undefined
}

/** Items with those of missing slots left out and those of further slots behind the pattern's. */
function arranged<T>(
  items: readonly T[],
  family: Family,
  textOf: (item: T) => string,
  copy: (item: T, slot: number) => T,
): T[] {
  const texts = new Set(items.map(textOf))
  const further = family.wanted.filter((slot) => !WRITTEN.includes(slot))
  const slots = items.map((item) => slotOf(textOf(item), family, (text) => texts.has(text)))
  return items.flatMap((item, index) => {
    const slot = slots[index]
    if (slot === undefined) return [item]
    const kept = family.wanted.includes(slot) ? [item] : []
    if (slot !== PATTERN || slots[index + 1] === PATTERN) return kept
    // A run of neighbours that belong to the pattern's slot is copied as one.
    const start = slots.slice(0, index).findLastIndex((one) => one !== PATTERN) + 1
    const run = items.slice(start, index + 1)
    return [...kept, ...further.flatMap((to) => run.map((one) => copy(one, to)))]
  })
}

function expandYaml(text: string, family: Family): string {
  const document = readDocument(text)
  expandNode(document.contents, family)
  return documentText(document)
}

function expandNode(node: unknown, family: Family): void {
  if (isScalar(node) && typeof node.value === 'string') node.value = expandText(node.value, family)
  if (!isCollection(node)) return
  if (isMap(node)) {
    node.items = arranged<Pair>(node.items, family, keyOf, (pair, slot) =>
      copiedPair(pair, family, slot),
    )
    for (const { value } of node.items) expandNode(value, family)
  }
  if (isSeq<Node>(node)) {
    node.items = arranged(node.items, family, wordsOf, (item, slot) =>
      copiedNode(item, family, slot),
    )
    for (const item of node.items) expandNode(item, family)
  }
}

/** An item's scalars, as good as the item for telling whose it is; an alias is its name. */
function wordsOf(item: Node): string {
  const words: string[] = []
  visit(item, {
    Scalar: (_, { value }) => {
      words.push(String(value))
    },
    Alias: (_, { source }) => {
      words.push(`*${source}`)
    },
  })
  return words.join('\n')
}

function keyOf({ key }: Pair): string {
  return String(isScalar(key) ? key.value : key)
}

function copiedPair(pair: Pair, family: Family, slot: number): Pair {
  const copy = pair.clone()
  renumber(copy.key, family, slot)
  renumber(copy.value, family, slot)
  return copy
}

function copiedNode(node: Node, family: Family, slot: number): Node {
  const copy: unknown = node.clone()
  invariant(isNode(copy), 'a copy of a node is a node')
  renumber(copy, family, slot)
  return copy
}

/** The comments are the pattern's; once is enough. */
function renumber(root: unknown, family: Family, slot: number): void {
  if (!isNode(root)) return
  visit(root, {
    Scalar: (_, node) => {
      delete node.commentBefore
      delete node.comment
      if (typeof node.value === 'string') node.value = renumbered(node.value, family, PATTERN, slot)
    },
  })
}

/** Lists inside of lines first, then lines. */
function expandText(text: string, family: Family): string {
  const lines = text.split('\n').map((line) => expandLine(line, family))
  return arranged(
    lines,
    family,
    (line) => line,
    (line, slot) => renumbered(line, family, PATTERN, slot),
  ).join('\n')
}

/** `a1,a2,a3` and `a1 a2 a3`, wherever in the line they stand. */
function expandLine(line: string, family: Family): string {
  let changed = line
  for (const [, separator = '', middle = ''] of line.matchAll(/([,\s]+)([^,\s]+)(?=[,\s])/g)) {
    const [first, second, last] = WRITTEN.map((slot) => renumbered(middle, family, 2, slot))
    if (first === second) continue
    const written = [first, second, last].join(separator)
    const wanted = family.wanted.map((slot) => renumbered(middle, family, 2, slot)).join(separator)
    changed = changed.replace(written, () => wanted)
  }
  return changed
}
