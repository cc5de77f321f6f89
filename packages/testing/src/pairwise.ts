import { createRandom } from './random.js'

/** Values that each parameter can take. */
export type Parameters<Row> = { readonly [Name in keyof Row]: readonly Row[Name][] }

/** Rows tried for each row taken; more gives fewer rows. */
const candidatesPerRow = 60

export interface PairwiseOptions<Row> {
  readonly seed?: number
  /** What a row takes, after those taken so far. Rows with many new pairs for their cost come first. Default: 1. */
  cost?(row: Row, taken: readonly Row[]): number
}

/**
 * Rows in which every two values of every two parameters come together at least once: most bugs need no more than two
 * conditions at a time. Greedy (AETG; Cohen et al. 1997, doi:10.1109/32.605761), weighted by cost as set cover is, and
 * seeded: the same rows on every run.
 */
export function pairwise<Row extends object>(
  parameters: Parameters<Row>,
  { seed = 1, cost = () => 1 }: PairwiseOptions<Row> = {},
): Row[] {
  const names = Object.keys(parameters) as (keyof Row & string)[]
  const sizes = names.map((name) => parameters[name].length)
  if (sizes.includes(0)) throw new Error(`no value for ${names[sizes.indexOf(0)]}`)
  const random = createRandom(seed)
  const uncovered = new Set<string>()
  for (let p = 0; p < names.length; p++) {
    for (let r = p + 1; r < names.length; r++) {
      for (let a = 0; a < sizes[p]!; a++) for (let c = 0; c < sizes[r]!; c++) uncovered.add(pair(p, a, r, c))
    }
  }
  const rows: Row[] = []
  const toRow = (values: readonly number[]) =>
    Object.fromEntries(values.map((value, p) => [names[p], parameters[names[p]!][value]])) as Row
  while (uncovered.size > 0) {
    let best: number[] = []
    let bestGain = -1
    for (let n = 0; n < candidatesPerRow; n++) {
      const row = candidate()
      const gain = newPairs(row).length / cost(toRow(row), rows)
      if (gain > bestGain) [best, bestGain] = [row, gain]
    }
    for (const covered of newPairs(best)) uncovered.delete(covered)
    rows.push(toRow(best))
  }
  // With one parameter there are no pairs.
  return names.length === 1 ? parameters[names[0]!].map((_, value) => toRow([value])) : rows

  /** Starts from an uncovered pair, then gives each other parameter the value that covers most. */
  function candidate(): number[] {
    const pick = random.integer(0, uncovered.size - 1)
    let seen = 0
    let start: number[] = []
    for (const key of uncovered) {
      if (seen++ < pick) continue
      start = key.split(',').map(Number)
      break
    }
    const row = new Array<number>(names.length).fill(-1)
    row[start[0]!] = start[1]!
    row[start[2]!] = start[3]!
    for (const p of shuffled(names.length)) {
      if (row[p] !== -1) continue
      let bestValue = 0
      let bestGain = -1
      for (const value of shuffled(sizes[p]!)) {
        let gain = 0
        for (let r = 0; r < names.length; r++) if (row[r] !== -1 && uncovered.has(pair(p, value, r, row[r]!))) gain++
        if (gain > bestGain) [bestValue, bestGain] = [value, gain]
      }
      row[p] = bestValue
    }
    return row
  }

  function newPairs(row: readonly number[]): string[] {
    const found: string[] = []
    for (let p = 0; p < row.length; p++) {
      for (let r = p + 1; r < row.length; r++) {
        const key = pair(p, row[p]!, r, row[r]!)
        if (uncovered.has(key)) found.push(key)
      }
    }
    return found
  }

  function shuffled(count: number): number[] {
    const order = Array.from({ length: count }, (_, i) => i)
    for (let i = count - 1; i > 0; i--) {
      const j = random.integer(0, i)
      ;[order[i], order[j]] = [order[j]!, order[i]!]
    }
    return order
  }
}

function pair(p: number, a: number, r: number, c: number): string {
  return p < r ? `${p},${a},${r},${c}` : `${r},${c},${p},${a}`
}
