import type { BindingKind, DType, KernelSource } from '@sparse-attention/core'
import { productTile, stageUnit, TILE } from '../shared/product-tile.js'
import { type RowSource, rowOfFunction, sampledRowsUniforms } from '../shared/sampled-rows.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, LOWEST, orderedFunction, unitType } from '../shared/wgsl.js'

export interface SampledScoresOptions {
  readonly dtype: DType
  /** Multiple of 8. */
  readonly headDim: number
  readonly causal: boolean
  readonly source: RowSource
}

export const sampledScoresUniforms = {
  ...addressFields('q'),
  ...addressFields('k'),
  ...sampledRowsUniforms,
  query_heads: 'u32',
  group_size: 'u32',
  key_length: 'u32',
  query_offset: 'i32',
  scale: 'f32',
  /** First of batch · query heads of this call. */
  first_head: 'u32',
} as const

export const sampledScoresBindings = ({ dtype, source }: SampledScoresOptions): string => `\
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read> k: array<${unitType(dtype)}>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;
${source === 'given' ? '@group(0) @binding(4) var<storage, read> row_indices: array<i32>;\n' : ''}`

export const sampledScoresHeader = ({ dtype, causal }: SampledScoresOptions): string => `\
// Scores of sampled query rows, scores[h, r, j] = scale · q[row(r)] · k[j] (the last rows: MInference, arXiv 2407.02490,
// §3.2). ${causal ? 'Keys that a row does not see, and ' : ''}NaN become the lowest finite number, ±∞ the largest of its sign.
//
// Axes: q [B, Hq, Lq, D] and k [B, Hkv, Lk, D] ${dtype}, strided; scores f32 [heads, rows, Lk], of the heads from first_head.`

/** `put_score(head, row, column, product)`: writes a score, unless its row or column is past the end. */
export const putScoreFunction = (causal: boolean): string => `\
fn put_score(head: u32, row: u32, column: u32, product: f32) {
  if (row >= u.rows || column >= u.key_length) { return; }
  let query = row_of(row);
  let seen = query != NO_ROW${causal ? ' && i32(column) <= i32(query) + u.query_offset' : ''};
  scores[(head * u.rows + row) * u.key_length + column] = select(${LOWEST}, ordered(product * u.scale), seen);
}`

/** Where the workgroup's rows of q and k begin. */
export const sampledScoresHeads = `\
let batch = (u.first_head + workgroup.z) / u.query_heads;
let head = (u.first_head + workgroup.z) % u.query_heads;
let q_head = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride;
let k_head = u.k_offset + batch * u.k_batch_stride + head / u.group_size * u.k_head_stride;`

/** Portable tier: a tiled product. */
export function emitSampledScores(options: SampledScoresOptions): KernelSource {
  const { dtype, headDim, causal, source } = options
  const perUnit = elementsPerUnit(dtype)
  const tile = productTile(headDim)
  const { depth, pitch } = tile
  const code = `\
${sampledScoresHeader(options)}
//
// 64 invocations compute ${TILE} × ${TILE} cells, 4 × 4 each, over ${depth * 4} dimensions at a time.
${uniformStruct('Uniforms', sampledScoresUniforms)}

${sampledScoresBindings(options)}
const UNITS = ${headDim / perUnit}u;
const STAGED_UNITS = ${(depth * 4) / perUnit}u;

${tile.memory}

${rowOfFunction(source)}

${orderedFunction}

${putScoreFunction(causal)}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  ${indent(sampledScoresHeads, 2)}
  let first_column = workgroup.x * ${TILE}u;
  let first_row = workgroup.y * ${TILE}u;
  ${indent(tile.declare, 2)}

  for (var first_unit = 0u; first_unit < UNITS; first_unit += STAGED_UNITS) {
    workgroupBarrier();
    for (var index = local; index < ${TILE}u * STAGED_UNITS; index += 64u) {
      let tile_row = index / STAGED_UNITS;
      let unit_in_row = index % STAGED_UNITS;
      let at = tile_row * ${pitch}u + unit_in_row * ${perUnit / 4}u;
      let q_row = row_of(first_row + tile_row);
      let k_row = first_column + tile_row;
      ${indent(stageUnit(dtype, 'q', 'query_length'), 6)}
      ${indent(stageUnit(dtype, 'k', 'key_length'), 6)}
    }
    workgroupBarrier();
    ${indent(tile.multiply, 4)}
  }

  ${indent(
    tile.store(
      '1.0',
      `for (var j = 0u; j < 4u; j++) { put_score(workgroup.z, first_row + row, first_column + cell_column + j, cells[j]); }`,
    ),
    2,
  )}
}
`
  return {
    label: 'sampled-scores',
    code,
    bindings: sampledScoresKinds(source),
    workgroupSize: 64,
    workgroupBytes: tile.workgroupBytes,
  }
}

export function sampledScoresKinds(source: RowSource): BindingKind[] {
  return ['uniform', 'read', 'read', 'read_write', ...(source === 'given' ? (['read'] as const) : [])]
}
