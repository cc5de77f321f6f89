import type { DType, KernelSource } from '@sparse-attention/core'
import { productTile, stageUnit, TILE } from '../shared/product-tile.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, unitType } from '../shared/wgsl.js'

export interface AntidiagonalScoresOptions {
  readonly dtype: DType
  /** Multiple of 8. */
  readonly headDim: number
  /** Rows and columns summed along one antidiagonal. */
  readonly stride: number
  readonly causal: boolean
}

export const antidiagonalUniforms = {
  ...addressFields('q'),
  ...addressFields('k'),
  query_heads: 'u32',
  group_size: 'u32',
  query_length: 'u32',
  key_length: 'u32',
  query_offset: 'i32',
  /** scale / stride. */
  scale: 'f32',
  /** First strided row of this chunk, rows of the chunk, and columns: the shape of `scores` per head. */
  first_row: 'u32',
  rows: 'u32',
  columns: 'u32',
} as const

/** XAttention's antidiagonal scores (arXiv 2503.16428, §2.1), portable tier: a tiled product of strided rows. */
export function emitAntidiagonalScores(options: AntidiagonalScoresOptions): KernelSource {
  const { dtype, headDim, stride, causal } = options
  const perUnit = elementsPerUnit(dtype)
  const tile = productTile(headDim)
  const { depth, pitch } = tile
  const code = `\
// Antidiagonal scores of XAttention (arXiv 2503.16428, §2.1), stride S = ${stride}${causal ? ', causal in stride units' : ''}:
// scores[u, v] = scale/S · Σ_{r<S} q[uS + S−1−r] · k[vS + r], rows past the end counting as zero.
//
// Axes: q [B, Hq, Lq, D] and k [B, Hkv, Lk, D] ${dtype}, strided; scores f32 [B·Hq, rows, columns], of the strided rows
// first_row … first_row + rows. ${causal ? 'Tiles in which no query sees a key are not written.' : ''}
//
// 64 invocations compute ${TILE} × ${TILE} cells, 4 × 4 each, over ${depth * 4} dimensions at a time.
${uniformStruct('Uniforms', antidiagonalUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read> k: array<${unitType(dtype)}>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;

const STRIDE = ${stride}u;
const UNITS = ${headDim / perUnit}u;
const STAGED_UNITS = ${(depth * 4) / perUnit}u;

${tile.memory}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = workgroup.z / u.query_heads;
  let head = workgroup.z % u.query_heads;
  let first_column = workgroup.x * ${TILE}u;
  let first_row = u.first_row + workgroup.y * ${TILE}u;
  ${
    causal
      ? `let last_query = i32((first_row + ${TILE}u) * STRIDE) - 1;
  if (i32(first_column * STRIDE) > last_query + u.query_offset) { return; }`
      : ''
  }
  let q_head = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride;
  let k_head = u.k_offset + batch * u.k_batch_stride + head / u.group_size * u.k_head_stride;
  ${indent(tile.declare, 2)}

  for (var r = 0u; r < STRIDE; r++) {
    for (var first_unit = 0u; first_unit < UNITS; first_unit += STAGED_UNITS) {
      workgroupBarrier();
      for (var index = local; index < ${TILE}u * STAGED_UNITS; index += 64u) {
        let tile_row = index / STAGED_UNITS;
        let unit_in_row = index % STAGED_UNITS;
        let at = tile_row * ${pitch}u + unit_in_row * ${perUnit / 4}u;
        let q_row = (first_row + tile_row) * STRIDE + STRIDE - 1u - r;
        let k_row = (first_column + tile_row) * STRIDE + r;
        ${indent(stageUnit(dtype, 'q', 'query_length'), 8)}
        ${indent(stageUnit(dtype, 'k', 'key_length'), 8)}
      }
      workgroupBarrier();
      ${indent(tile.multiply, 6)}
    }
  }

  let first_cell = workgroup.z * u.rows + first_row - u.first_row;
  ${indent(
    tile.store(
      'u.scale',
      `for (var j = 0u; j < 4u; j++) {
    let column = first_column + cell_column + j;
    if (first_row - u.first_row + row < u.rows && column < u.columns) {
      scores[(first_cell + row) * u.columns + column] = cells[j];
    }
  }`,
    ),
    2,
  )}
}
`
  return {
    label: 'antidiagonal-scores',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: tile.workgroupBytes,
  }
}
