import { type HostPlan, keptShares } from '@sparse-attention/core'

/** What an attention kept, as a picture: share of the query–key pairs in each cell. */
export interface SkipMap {
  readonly heads: number
  /** Cells down (queries) and across (keys). */
  readonly rows: number
  readonly columns: number
  /** Tokens of a cell, fewer in the last ones. */
  readonly rowTokens: number
  readonly columnTokens: number
  /** Of either axis. */
  readonly queryLength: number
  readonly keyLength: number
  /** [heads, rows, columns], 0 to 255 */
  readonly shares: Uint8Array<ArrayBuffer>
}

/** Cells of an axis at most: maps of a whole video stay below some MB, and a cell above a pixel. */
const mostCells = 64

/** The map of a plan of one sequence: a cell is a block of the plan where that is coarse enough, and never smaller. */
export function skipMap(plan: HostPlan): SkipMap {
  const permuted = 'permutation' in plan || plan.kind === 'variable-block'
  const cell = (length: number, block: number) => {
    const least = Math.ceil(length / mostCells)
    return permuted ? least : block * Math.ceil(least / block)
  }
  const rowTokens = cell(plan.queryLength, 'blockQ' in plan ? plan.blockQ : 1)
  const columnTokens = cell(plan.keyLength, 'blockK' in plan ? plan.blockK : 1)
  return {
    heads: plan.batch * plan.queryHeads,
    rows: Math.ceil(plan.queryLength / rowTokens),
    columns: Math.ceil(plan.keyLength / columnTokens),
    rowTokens,
    columnTokens,
    queryLength: plan.queryLength,
    keyLength: plan.keyLength,
    shares: Uint8Array.from(keptShares(plan, rowTokens, columnTokens), (share) => Math.round(share * 255)),
  }
}
