/**
 * Rows as a table of characters, as psql draws them.
 */

/** Numbers go to the right, everything else to the left; NULL is shown as such. */
export function table(
  names: readonly string[],
  rows: readonly (readonly (string | null)[])[],
): string {
  const cells = rows.map((row) => row.map((value) => (value ?? 'NULL').replaceAll('\n', '\\n')))
  const widths = names.map((name, column) =>
    Math.max(name.length, ...cells.map((row) => row[column]?.length ?? 0)),
  )
  const isNumber = names.map((_, column) =>
    rows.every((row) => /^-?[\d.]+$/.test(row[column] ?? '0')),
  )
  const line = (row: readonly string[]): string =>
    row
      .map((value, column) => {
        const width = widths[column] ?? 0
        return isNumber[column] === true ? value.padStart(width) : value.padEnd(width)
      })
      .join(' | ')
      .trimEnd()
  const rule = widths.map((width) => '-'.repeat(width)).join('-+-')
  return [line(names), rule, ...cells.map(line)].join('\n')
}
