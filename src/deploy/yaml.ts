/**
 * YAML as Docker, Patroni and Prometheus read it: version 1.1, in which 0400 is a mode in octal digits and
 * `on` is true. Read as the newer version a key's mode would become 620, readable by others.
 */
import { type Document, parse, parseDocument, stringify } from 'yaml'

const VERSION = { version: '1.1', merge: true } as const

export function readYaml(text: string): unknown {
  return parse(text, VERSION)
}

/** With comments, to be changed and written again. */
export function readDocument(text: string): Document {
  return parseDocument(text, VERSION)
}

/** No long line is folded, and braces stay as tight as the files have them. */
export function documentText(document: Document): string {
  return document.toString({ lineWidth: 0, flowCollectionPadding: false })
}

export function writeYaml(value: unknown): string {
  return stringify(value, { ...VERSION, lineWidth: 0, aliasDuplicateObjects: false })
}
