import type { MatrixDialect } from '../../shared/subgroup-matrix.js'
import { indent, range } from '../../shared/wgsl.js'
import { type MatrixLayout, TILE_KEYS } from './geometry.js'

/**
 * Statements with subgroup matrices. One that stays in registers is a variable of its own, q_m_k for row tile m and slice k
 * of head_dim, o_m_n for row tile m and columns n of the output: an array of them could be indexed at run time, and would
 * then lie in memory. Offsets and pitches are literals, so that no bounds check has to change them.
 */
export interface Products {
  /** Loads the workgroup's rows of q, 64 bytes at a time, through `scores`. */
  readonly loadQuery: string
  readonly clearOutput: string
  /** `scores` = q · `k_tile`ᵀ, not scaled. */
  readonly scores: string
  /** Output += weights · `v_tile`. */
  readonly values: string
  /** Multiplies each row of the output by its lane's `rescale`. Uses `scores`. */
  readonly rescaleOutput: string
  /** Stores the rows of the output, times their lane's `inverse`, by units of 16 bytes. Uses `scores`. */
  readonly writeOutput: (store: (unit: string, value: string) => string) => string
}

export function products(dialect: MatrixDialect, layout: MatrixLayout): Products {
  const { M, N, K } = dialect.shape
  const { headDim, subgroupRows, lanesPerRow, tilePitch, scorePitch, weightPitch, vectors, weightUnit } = layout
  const { keys, values, weights } = layout
  const memory = layout.scores
  // Tiles of the rows, of a tile's keys as columns and as depth, of head_dim as depth and as columns.
  const rows = range(subgroupRows / M)
  const keyColumns = range(TILE_KEYS / N)
  const keyDepth = range(TILE_KEYS / K)
  const depth = range(headDim / K)
  const columns = range(headDim / N)
  // Where results lie in `scores`, in units.
  const resultAt = (m: number, n: number) => m * M * scorePitch + (n * N) / 4
  const lines = <T>(items: readonly T[], line: (item: T) => string) => items.map(line).join('\n')
  const pairs = <A, B>(as: readonly A[], bs: readonly B[]) => as.flatMap((a) => bs.map((b) => [a, b] as const))

  const storeResults = (result: (m: number, n: number) => string) =>
    lines(pairs(rows, keyColumns), ([m, n]) => dialect.store(memory, resultAt(m, n), result(m, n), scorePitch))
  const multiplyByRows = (into: (m: number) => string, left: (m: number) => string, right: string) =>
    indent(
      lines(rows, (m) => dialect.multiplyAccumulate(into(m), left(m), right)),
      2,
    )

  const loadQuery = lines(range(Math.ceil(headDim / 32)), (chunk) => {
    const units = Math.min(4, headDim / 8 - 4 * chunk)
    const perLane = units / lanesPerRow
    const slices = depth.filter((k) => Math.floor((k * K) / 32) === chunk)
    return `\
${lines(range(perLane), (i) =>
  dialect.writeHalves(
    memory,
    `score_row + part * ${perLane}u + ${i}u`,
    `query_unit(q_row + ${4 * chunk}u + part * ${perLane}u + ${i}u, live, sign)`,
  ),
)}
workgroupBarrier();
${lines(pairs(slices, rows), ([k, m]) => {
  const left = dialect.load('Left', 'row_major', memory, m * M * scorePitch + ((k * K) % 32) / 8, scorePitch)
  return `let q_${m}_${k} = ${left};`
})}
workgroupBarrier();`
  })

  /** TILE_KEYS columns of the output at a time pass through `scores`, where each lane has its row. */
  const throughScores = (chunk: number, change: string) => `\
${storeResults((m, n) => `o_${m}_${chunk * keyColumns.length + n}`)}
workgroupBarrier();
${change}
workgroupBarrier();`
  const chunks = range(headDim / TILE_KEYS)
  const floats = (i: number) => dialect.readFloats(memory, `score_at + ${i}u`)

  return {
    loadQuery,
    clearOutput: lines(pairs(columns, rows), ([n, m]) => `var o_${m}_${n} = Result();`),
    scores: `\
${pairs(rows, keyColumns)
  .map(([m, n]) => `var s_${m}_${n} = Result();`)
  .join(' ')}
${lines(
  pairs(depth, keyColumns),
  ([k, n]) => `\
{
  let keys = ${dialect.load('Right', 'col_major', keys, n * N * tilePitch + (k * K) / 8, tilePitch)};
  ${multiplyByRows(
    (m) => `s_${m}_${n}`,
    (m) => `q_${m}_${k}`,
    'keys',
  )}
}`,
)}
${storeResults((m, n) => `s_${m}_${n}`)}`,
    values: `\
${lines(pairs(rows, keyDepth), ([m, k]) => {
  const at = m * M * weightPitch + weightUnit + (k * K) / 8
  return `let p_${m}_${k} = ${dialect.load('Left', 'row_major', weights, at, weightPitch)};`
})}
${lines(
  pairs(columns, keyDepth),
  ([n, k]) => `\
{
  let values = ${dialect.load('Right', 'row_major', values, k * K * tilePitch + (n * N) / 8, tilePitch)};
  ${multiplyByRows(
    (m) => `o_${m}_${n}`,
    (m) => `p_${m}_${k}`,
    'values',
  )}
}`,
)}`,
    rescaleOutput: lines(
      chunks,
      (chunk) => `\
${throughScores(
  chunk,
  lines(range(vectors), (i) => dialect.writeFloats(memory, `score_at + ${i}u`, `${floats(i)} * rescale`)),
)}
${lines(pairs(rows, keyColumns), ([m, n]) => {
  const result = dialect.load('Result', 'row_major', memory, resultAt(m, n), scorePitch)
  return `o_${m}_${chunk * keyColumns.length + n} = ${result};`
})}
workgroupBarrier();`,
    ),
    writeOutput: (store) =>
      lines(chunks, (chunk) =>
        throughScores(
          chunk,
          `if (live) {
${lines(range(vectors / 2), (i) => {
  const value = `output_unit(${floats(2 * i)}, ${floats(2 * i + 1)}, inverse)`
  return `  ${store(`${2 * chunk}u + part * ${vectors / 2}u + ${i}u`, value)}`
})}
}`,
        ),
      ),
  }
}
