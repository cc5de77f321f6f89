import { indent, range } from '../../shared/wgsl.js'
import type { MatrixGeometry } from './geometry.js'

/**
 * Statements with subgroup matrices. One that stays in registers is a variable of its own, q_m_d or o_m_d for row tile m and
 * depth tile d: an array of them could be indexed at run time, and would then lie in memory. Offsets and pitches are literals
 * in units of 16 bytes, so that no bounds check has to change them.
 */
export interface Products {
  /** Loads the workgroup's rows of q, two depth tiles at a time, through `scores`. */
  readonly loadQuery: string
  readonly clearOutput: string
  /** `scores` = q · `k_tile`ᵀ, not scaled. */
  readonly scores: string
  /** Output += weights in `scores` · `v_tile`. */
  readonly values: string
  /** Multiplies each row of the output by its lane's `rescale`. Uses `scores`. */
  readonly rescaleOutput: string
  /** Writes the rows of the output, times their lane's `inverse`. Uses `scores`. */
  readonly writeOutput: string
}

const load = (
  type: 'Left' | 'Right' | 'Result',
  order: 'row_major' | 'col_major',
  from: string,
  at: number,
  pitch: number,
) => `subgroupMatrixLoad<${type}, ${order}>(&${from}, ${at}u, ${pitch}u)`

export function products(geometry: MatrixGeometry): Products {
  const { rowTiles, lanesPerRow, depthTiles, tilePitch, scorePitch, vectors, weightUnit } = geometry
  const rows = range(rowTiles)
  const depth = range(depthTiles)
  const scoreOffset = (m: number) => 16 * m * scorePitch
  const lines = <T>(items: readonly T[], line: (item: T) => string) => items.map(line).join('\n')

  const storeScores = (matrix: (m: number) => string) =>
    lines(
      rows,
      (m) => `subgroupMatrixStore<row_major>(&scores[subgroup], ${scoreOffset(m)}u, ${matrix(m)}, ${scorePitch}u);`,
    )
  const multiplyAccumulate = (into: (m: number) => string, left: (m: number) => string, right: string) =>
    lines(rows, (m) => `${into(m)} = subgroupMatrixMultiplyAccumulate(${left(m)}, ${right}, ${into(m)});`)

  const loadQuery = lines(range(Math.ceil(depthTiles / 2)), (pair) => {
    const tiles = depth.slice(2 * pair, 2 * pair + 2)
    const perLane = (2 * tiles.length) / lanesPerRow
    return `\
${lines(
  range(perLane),
  (i) =>
    `scores[local / LANES][score_row + part * ${perLane}u + ${i}u] = query_unit(q_row + ${4 * pair}u + part * ${perLane}u + ${i}u, live, sign);`,
)}
workgroupBarrier();
${tiles.flatMap((d, i) => rows.map((m) => `let q_${m}_${d} = ${load('Left', 'row_major', 'scores[subgroup]', scoreOffset(m) + 2 * i, scorePitch)};`)).join('\n')}
workgroupBarrier();`
  })

  /** One depth tile of the output at a time passes through `scores`, where each lane has its row. */
  const throughScores = (d: number, change: string) => `\
${storeScores((m) => `o_${m}_${d}`)}
workgroupBarrier();
${change}
workgroupBarrier();`
  const score = (i: number) => `scores[local / LANES][score_at + ${i}u]`

  return {
    loadQuery,
    clearOutput: lines(depth, (d) => lines(rows, (m) => `var o_${m}_${d} = Result();`)),
    scores: `\
${rows.map((m) => `var s${m} = Result();`).join(' ')}
${lines(
  depth,
  (d) => `\
{
  let keys = ${load('Right', 'col_major', 'k_tile', 2 * d, tilePitch)};
  ${indent(
    multiplyAccumulate(
      (m) => `s${m}`,
      (m) => `q_${m}_${d}`,
      'keys',
    ),
    2,
  )}
}`,
)}
${storeScores((m) => `s${m}`)}`,
    values: `\
${lines(rows, (m) => `let p${m} = ${load('Left', 'row_major', 'scores[subgroup]', scoreOffset(m) + weightUnit, scorePitch)};`)}
${lines(
  depth,
  (d) => `\
{
  let values = ${load('Right', 'row_major', 'v_tile', 2 * d, tilePitch)};
  ${indent(
    multiplyAccumulate(
      (m) => `o_${m}_${d}`,
      (m) => `p${m}`,
      'values',
    ),
    2,
  )}
}`,
)}`,
    rescaleOutput: lines(
      depth,
      (d) => `\
${throughScores(
  d,
  lines(range(vectors), (i) => `${score(i)} = bitcast<vec4<u32>>(bitcast<vec4<f32>>(${score(i)}) * rescale);`),
)}
${lines(rows, (m) => `o_${m}_${d} = ${load('Result', 'row_major', 'scores[subgroup]', scoreOffset(m), scorePitch)};`)}
workgroupBarrier();`,
    ),
    writeOutput: lines(depth, (d) =>
      throughScores(
        d,
        `if (live) {
${lines(
  range(vectors / 2),
  (i) =>
    `  out[out_row + ${2 * d}u + part * ${vectors / 2}u + ${i}u] = output_unit(${score(2 * i)}, ${score(2 * i + 1)}, inverse);`,
)}
}`,
      ),
    ),
  }
}
