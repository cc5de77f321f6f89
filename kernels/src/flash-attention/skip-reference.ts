import { type AttentionShape, blockGrid, type HostBlockPlan, hasBlock, lastVisibleKey } from '@sparse-attention/core'

export interface SkipProblem extends AttentionShape {
  /** [B, Hq, Lq, D] */
  readonly q: Float64Array
  /** [B, Hkv, Lk, D] */
  readonly k: Float64Array
  readonly causal: boolean
  readonly scale: number
  readonly tile: { readonly rows: number; readonly keys: number }
  /** Natural log. */
  readonly threshold: number
  /** Tiles outside of it are not visited. Its blocks are whole tiles. Absent: all are. */
  readonly plan?: HostBlockPlan
  /** Rows of more tiles in the plan are computed in pieces of equal length, whose maxima begin anew. */
  readonly longestPiece?: number
}

/** Which tiles count, in float64: u32 bitmap of blocks of the tile's size; tiles visited and counted; the closest call. */
export function skipReference(problem: SkipProblem): {
  bitmap: Uint32Array
  computed: number
  visible: number
  margin: number
} {
  const { batch, queryHeads, kvHeads, queryLength, tile, plan } = problem
  const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid({ ...problem, blockQ: tile.rows, blockK: tile.keys })
  const bitmap = new Uint32Array(batch * queryHeads * queryBlocks * wordsPerRow)
  let [computed, visible, margin] = [0, 0, Number.POSITIVE_INFINITY]
  for (let bh = 0; bh < batch * queryHeads; bh++) {
    const kvHead = Math.floor(bh / queryHeads) * kvHeads + Math.floor(((bh % queryHeads) * kvHeads) / queryHeads)
    for (let a = 0; a < queryBlocks; a++) {
      const rows = Math.min(tile.rows, queryLength - a * tile.rows)
      const largest = new Float64Array(rows).fill(Number.NEGATIVE_INFINITY)
      const piece = pieceLength(problem, bh, a)
      let visited = 0
      for (let c = 0; c < keyBlocks; c++) {
        const [b, h] = [Math.floor(bh / queryHeads), bh % queryHeads]
        const block = plan && [Math.floor((a * tile.rows) / plan.blockQ), Math.floor((c * tile.keys) / plan.blockK)]
        if (block && !hasBlock(plan, b, h, block[0]!, block[1]!)) continue
        if (visited++ % piece === 0) largest.fill(Number.NEGATIVE_INFINITY)
        let [sees, votes] = [false, false]
        for (let r = 0; r < rows; r++) {
          const row = a * tile.rows + r
          const end = Math.min((c + 1) * tile.keys, lastVisibleKey(problem, row) + 1)
          let top = Number.NEGATIVE_INFINITY
          for (let key = c * tile.keys; key < end; key++) top = Math.max(top, score(problem, bh, row, kvHead, key))
          if (top === Number.NEGATIVE_INFINITY) continue
          sees = true
          const above = top - largest[r]! - problem.threshold
          margin = Math.min(margin, Math.abs(above))
          if (above > 0) votes = true
          // A tile that does not count raises no row's maximum.
          largest[r] = Math.max(largest[r]!, top)
        }
        visible += Number(sees)
        computed += Number(votes)
        if (votes) bitmap[(bh * queryBlocks + a) * wordsPerRow + (c >> 5)]! |= 1 << (c & 31)
      }
    }
  }
  return { bitmap, computed, visible, margin }
}

/** Tiles of each piece of a row but the last. */
function pieceLength({ plan, queryHeads, longestPiece }: SkipProblem, bh: number, a: number): number {
  if (!plan || longestPiece === undefined) return Number.POSITIVE_INFINITY
  const { keyBlocks } = blockGrid(plan)
  let length = 0
  for (let c = 0; c < keyBlocks; c++)
    length += Number(hasBlock(plan, Math.floor(bh / queryHeads), bh % queryHeads, a, c))
  return Math.ceil(length / Math.ceil(length / longestPiece))
}

function score(
  { q, k, headDim, queryLength, keyLength, scale }: SkipProblem,
  bh: number,
  row: number,
  kvHead: number,
  key: number,
): number {
  let sum = 0
  for (let d = 0; d < headDim; d++) {
    sum += q[(bh * queryLength + row) * headDim + d]! * k[(kvHead * keyLength + key) * headDim + d]!
  }
  return scale * sum
}
