/** Tokens of listed pages, kept where any head of the group has its bit, ascending. */
export function listTokensReference(
  pages: readonly number[],
  pageSize: number,
  heads: readonly ((position: number) => boolean)[],
): number[] {
  const tokens = pages.flatMap((first) => Array.from({ length: pageSize }, (_, i) => first + i))
  return tokens.filter((_, position) => heads.some((keeps) => keeps(position)))
}
