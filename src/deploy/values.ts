/**
 * Rules for the values of settings: what a port, a subnet or a schedule may be. A rule answers whether a text
 * is one; it knows no key and no file.
 */

/** A regular expression is one, too. */
export interface Rule {
  readonly test: (text: string) => boolean
}

export const PORT: Rule = { test: (text) => isBetween(text, 1, 65_535) }
export const COUNT: Rule = { test: (text) => isBetween(text, 1, 999_999_999) }

/** From 1 to `most`. */
export const upTo = (most: number): Rule => ({ test: (text) => isBetween(text, 1, most) })

/** `4G` or `512M`, and no less than `leastMib`. */
export const memoryFrom = (leastMib: number): Rule => ({
  test: (text) => {
    const [, number = '', unit = ''] = /^([1-9]\d{0,6})([MG])$/.exec(text) ?? []
    return Number(number) * (unit === 'G' ? 1024 : 1) >= leastMib
  },
})

/** What `rule` says, or nothing. */
export const orEmpty = (rule: Rule): Rule => ({ test: (text) => text === '' || rule.test(text) })

/** An IPv4 network by its first address, with room for a cluster and no more than a private range has. */
export const SUBNET: Rule = {
  test: (text) => {
    const found = rangeOf(text)
    return found !== undefined && found.first % found.size === 0
  },
}

const PREFIX_LEAST = 8
const PREFIX_MOST = 28

/** First address, as a number, and how many there are; undefined for what is no subnet. */
function rangeOf(text: string): { first: number; size: number } | undefined {
  const found = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text)
  if (found === null) return undefined
  const octets = found.slice(1, 5).map(Number)
  const prefix = Number(found[5])
  if (prefix < PREFIX_LEAST || prefix > PREFIX_MOST) return undefined
  if (octets.some((octet) => octet > 255)) return undefined
  const first = octets.reduce((sum, octet) => sum * 256 + octet, 0)
  return { first, size: 2 ** (32 - prefix) }
}

/** Whether two subnets share an address. */
export function doOverlap(one: string, other: string): boolean {
  const [a, b] = [rangeOf(one), rangeOf(other)]
  if (a === undefined || b === undefined) return false
  return a.first < b.first + b.size && b.first < a.first + a.size
}

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']
const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']
/** Least, most, and names of each field, as the repository host's scheduler takes them. */
const FIELDS: readonly (readonly [least: number, most: number, names: readonly string[]])[] = [
  [0, 59, []],
  [0, 23, []],
  [1, 31, []],
  [1, 12, MONTHS],
  [0, 6, DAYS],
]

/** Five fields as crontab has them, or `off`. */
export const SCHEDULE: Rule = {
  test: (text) => {
    if (text === 'off') return true
    const fields = text.split(' ')
    return (
      fields.length === FIELDS.length &&
      fields.every((field, index) => field.split(',').every((item) => isItem(item, index)))
    )
  },
}

function isItem(item: string, index: number): boolean {
  const [least = 0, most = 0, names = []] = FIELDS[index] ?? []
  const [, range = '', step = '1'] = /^([^/]+)(?:\/(\d+))?$/.exec(item) ?? []
  if (range === '' || Number(step) === 0) return false
  if (range === '*') return true
  const ends = range.split('-')
  const values = ends.map((end) => (names.includes(end) ? names.indexOf(end) : end))
  if (ends.length > 2) return false
  const isNamed = values.every((value) => typeof value === 'number')
  const isInside = values.every((value) => isBetween(String(value), least, most))
  return (isNamed || isInside) && Number(values[0]) <= Number(values.at(-1))
}

function isBetween(text: string, least: number, most: number): boolean {
  return /^(?:0|[1-9]\d*)$/.test(text) && Number(text) >= least && Number(text) <= most
}
