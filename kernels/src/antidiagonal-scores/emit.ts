import type { DType, KernelSource } from '@sparse-attention/core'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, range, unitType, unpackUnit } from '../shared/wgsl.js'

export interface AntidiagonalScoresOptions {
  readonly dtype: DType
  /** Multiple of 8. */
  readonly headDim: number
  /** Rows and columns summed along one antidiagonal. */
  readonly stride: number
  readonly causal: boolean
}

/** Output cells of one workgroup, per side. */
export const TILE = 32

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
  const vec4PerUnit = perUnit / 4
  const depth = headDim % 16 === 0 ? 4 : 2 // vec4 of head_dim staged at once
  const pitch = depth + 1 // odd, so that rows fall into different banks
  const micro = range(4)
  const stage = (name: 'q' | 'k') => {
    const targets = range(vec4PerUnit).map((i) => `${name}_tile[at + ${i}u]`)
    return `\
${targets.map((target) => `${target} = vec4<f32>();`).join(' ')}
if (${name}_row < u.${name === 'q' ? 'query' : 'key'}_length) {
  let unit = ${name}[${name}_head + ${name}_row * u.${name}_row_stride + first_unit + unit_in_row];
  ${indent(unpackUnit(dtype, 'unit', targets), 2)}
}`
  }
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

var<workgroup> q_tile: array<vec4<f32>, ${TILE * pitch}>;
var<workgroup> k_tile: array<vec4<f32>, ${TILE * pitch}>;

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
  let cell_row = local / 8u * 4u;
  let cell_column = local % 8u * 4u;
  ${micro.map((i) => `var sum${i} = vec4<f32>();`).join(' ')}

  for (var r = 0u; r < STRIDE; r++) {
    for (var first_unit = 0u; first_unit < UNITS; first_unit += STAGED_UNITS) {
      workgroupBarrier();
      for (var index = local; index < ${TILE}u * STAGED_UNITS; index += 64u) {
        let tile_row = index / STAGED_UNITS;
        let unit_in_row = index % STAGED_UNITS;
        let at = tile_row * ${pitch}u + unit_in_row * ${vec4PerUnit}u;
        let q_row = (first_row + tile_row) * STRIDE + STRIDE - 1u - r;
        let k_row = (first_column + tile_row) * STRIDE + r;
        ${indent(stage('q'), 8)}
        ${indent(stage('k'), 8)}
      }
      workgroupBarrier();
      for (var d = 0u; d < ${depth}u; d++) {
        ${micro.map((i) => `let a${i} = q_tile[(cell_row + ${i}u) * ${pitch}u + d];`).join('\n        ')}
        ${micro.map((i) => `let b${i} = k_tile[(cell_column + ${i}u) * ${pitch}u + d];`).join('\n        ')}
        ${micro.map((i) => `sum${i} += vec4<f32>(${micro.map((j) => `dot(a${i}, b${j})`).join(', ')});`).join('\n        ')}
      }
    }
  }

  let head_row = workgroup.z * u.rows;
  ${micro
    .map(
      (i) => `{
    let row = first_row - u.first_row + cell_row + ${i}u;
    let cells = sum${i} * u.scale;
    for (var j = 0u; j < 4u; j++) {
      let column = first_column + cell_column + j;
      if (row < u.rows && column < u.columns) { scores[(head_row + row) * u.columns + column] = cells[j]; }
    }
  }`,
    )
    .join('\n  ')}
}
`
  return {
    label: 'antidiagonal-scores',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 2 * TILE * pitch * 16,
  }
}
