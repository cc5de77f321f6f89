/** A table of Markdown. Columns of numbers are to the right: all but those in `left`. */
export function markdownTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  left: ReadonlySet<number> = new Set([0]),
): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  const rule = head.map((_, i) => (left.has(i) ? '---' : '---:'))
  return [line(head), line(rule), ...rows.map(line)].join('\n')
}

/** Versions behind a figure, in a line. */
export function listVersions(versions: Readonly<Record<string, string | null>>): string {
  return Object.entries(versions)
    .map(([name, version]) => `${name} ${version ?? 'not installed'}`)
    .join(', ')
}
