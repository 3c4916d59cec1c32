// hot path
/**
 * The texts of one database that were classified lately, with what replicas taught about them. A
 * cached text costs one lookup; a Query like others but for its constants not even that (patterns.ts). The
 * cache is two generations: new and used texts live in the young one; when that is half of the bound, it
 * becomes the old one and the old one is dropped, so what is used stays and nothing is moved on a hit.
 *
 *     miss -> young --(full)--> old --(full again)--> gone
 *               ^-----(used)-----'
 */
import { invariant } from '../base/invariant.ts'
import { type Catalogue, EMPTY_CATALOGUE } from './catalogue.ts'
import { type Classified, classify } from './classify.ts'
import { Latencies } from './latency.ts'
import { type Judged, Patterns } from './patterns.ts'

/** Longer texts are classified each time: they are loads, not queries that come again. */
const TEXT_CACHED_BYTES_MAX = 65_536
/** What the texts of one generation may hold together. */
const GENERATION_BYTES_MAX = 16_777_216

/** Slots of the hashes of texts seen once, and how many may be taken before they are forgotten. */
const SEEN_SLOTS = 65_536
const SEEN_MAX = 16_384

export class Statements {
  readonly #generationMax: number
  #catalogue: Catalogue = EMPTY_CATALOGUE
  #young = new Map<string, Classified>()
  #youngBytes = 0
  #old = new Map<string, Classified>()
  /** Hashes of texts that came once. */
  readonly #seen = new Uint8Array(SEEN_SLOTS)
  #seenCount = 0
  readonly #patterns = new Patterns()
  /** How long they take, by their shape. */
  readonly latencies: Latencies = new Latencies()

  /** Units: `statementsMax` texts; each generation holds at least one. */
  constructor(statementsMax: number) {
    invariant(statementsMax >= 1, 'the cache of statements holds at least one')
    this.#generationMax = Math.max(1, Math.floor(statementsMax / 2))
  }

  /** How many texts are kept. */
  get size(): number {
    return this.#young.size + this.#old.size
  }

  get catalogue(): Catalogue {
    return this.#catalogue
  }

  /** Judges by another catalogue from now on; everything learnt under an older one is forgotten. */
  setCatalogue(catalogue: Catalogue): void {
    const known = this.#catalogue
    if (known.serial === catalogue.serial && known.database === catalogue.database) return
    this.#catalogue = catalogue
    this.#young = new Map()
    this.#youngBytes = 0
    this.#old = new Map()
    this.#patterns.forget()
    this.latencies.forget()
  }

  /**
   * Judges the text in `bytes[start, end)`, up to its zero byte, as `classify` does. Null: it has none.
   *
   * Cost    no string is made of a text that differs in its constants alone from those that came.
   */
  judge(bytes: Buffer, start: number, end: number): Judged | null {
    const known = bytes[end - 1] === 0 ? this.#patterns.find(bytes, start, end - 1) : null
    if (known !== null) return known
    const zero = bytes.indexOf(0, start)
    if (zero === -1 || zero >= end) return null
    const text = bytes.toString('latin1', start, zero)
    const classified = this.classify(text)
    this.#patterns.learn(text, classified)
    return { classified, text }
  }

  /** The text's bytes as latin1, from a session with standard_conforming_strings on. */
  classify(text: string): Classified {
    const known = this.#young.get(text)
    if (known !== undefined) return known
    const old = this.#old.get(text)
    if (old !== undefined) {
      this.#keep(text, old)
      return old
    }
    const classified = classify(text, this.#catalogue)
    if (this.#wasSeen(text)) this.#keep(text, classified)
    return classified
  }

  /**
   * A replica refused this read (25006, 0A000): it goes to the primary until the next catalogue, and with
   * it those that differ in their constants alone.
   */
  learnPrimaryOnly(text: string): void {
    const classified = this.classify(text)
    if (!classified.read && classified.reason !== 'learnt') return
    const statements = classified.statements.map((statement) => ({
      ...statement,
      read: false,
      reason: 'learnt' as const,
    }))
    const learnt: Classified = { ...classified, statements, read: false, reason: 'learnt' }
    this.#keep(text, learnt)
    this.#patterns.learn(text, learnt, true)
  }

  /**
   * Whether a text like this came before. Texts with literals in them never come again, and keeping
   * each costs more than judging it: a text is kept at its second sight.
   */
  #wasSeen(text: string): boolean {
    const hash = hashOf(text)
    if (this.#seen[hash] === 1) return true
    if (this.#seenCount >= SEEN_MAX) {
      this.#seen.fill(0)
      this.#seenCount = 0
    }
    this.#seen[hash] = 1
    this.#seenCount += 1
    return false
  }

  #keep(text: string, classified: Classified): void {
    if (text.length > TEXT_CACHED_BYTES_MAX) return
    const isFull =
      this.#young.size >= this.#generationMax || this.#youngBytes >= GENERATION_BYTES_MAX
    if (isFull && !this.#young.has(text)) {
      this.#old = this.#young
      this.#young = new Map()
      this.#youngBytes = 0
    }
    if (!this.#young.has(text)) this.#youngBytes += text.length
    this.#young.set(text, classified)
    this.#old.delete(text)
  }
}

/** FNV-1a over the text, folded to a slot. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index += 1)
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  return (hash ^ (hash >>> 16)) & (SEEN_SLOTS - 1)
}
