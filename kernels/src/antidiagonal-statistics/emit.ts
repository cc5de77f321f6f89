import type { DType, KernelSource } from '@sparse-attention/core'
import { productTile, stageUnit, TILE } from '../shared/product-tile.js'
import { joinPartsFunction, softmaxPartFunction } from '../shared/softmax-part.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, LOWEST, orderedFunction, unitType } from '../shared/wgsl.js'

export interface AntidiagonalStatisticsOptions {
  readonly dtype: DType
  /** Multiple of 8. */
  readonly headDim: number
  /** Rows and columns summed along one antidiagonal. */
  readonly stride: number
  /** Tokens per block of keys: 4, 8, 16 or 32 strides. */
  readonly block: number
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
  /** First strided row of the chunk, and the first tile of its rows that this dispatch computes. */
  first_row: 'u32',
  first_tile: 'u32',
  /** Rows of the chunk, columns, and blocks of columns. */
  rows: 'u32',
  columns: 'u32',
  key_blocks: 'u32',
} as const

export const antidiagonalBindings = (dtype: DType): string => `\
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read> k: array<${unitType(dtype)}>;
@group(0) @binding(3) var<storage, read_write> statistics: array<vec2<f32>>;`

export const antidiagonalHeader = ({ dtype, stride, block, causal }: AntidiagonalStatisticsOptions): string => `\
// What a softmax needs of the antidiagonal scores of XAttention (arXiv 2503.16428, §2.1), stride S = ${stride}${causal ? ', causal in stride units' : ''}:
// scores[u, v] = scale/S · Σ_{r<S} q[uS + S−1−r] · k[vS + r], rows past the end counting as zero;
// statistics[u, c] = (m, Σ_v exp(scores[u, v] − m)) over the ${block / stride} columns v of key block c${causal ? ' that the row sees' : ''}, m the largest of them.
// NaN counts as −∞, which weighs nothing, ±∞ as the largest number of its sign.
//
// Axes: q [B, Hq, Lq, D] and k [B, Hkv, Lk, D] ${dtype}, strided; statistics f32 [B·Hq, rows, key_blocks, 2], of the strided rows
// first_row … first_row + rows.${causal ? ' Tiles in which no query sees a key are not written.' : ''}`

/** `seen_scores(scores, row, column)`: four scores from a column on, ordered, those that the strided row does not see lowest. */
export const seenScoresFunction = (causal: boolean, stride: number): string => `\
${orderedFunction}

// Four scores of a strided row, from a column on; what the row does not see becomes the lowest number.
fn seen_scores(scores: vec4<f32>, row: u32, column: u32) -> vec4<f32> {
  ${
    causal
      ? `let last_key = i32((row + 1u) * ${stride}u) - 1 + u.query_offset;
  let visible = select(0u, min(u32(max(last_key, 0)) / ${stride}u + 1u, u.columns), last_key >= 0);`
      : 'let visible = u.columns;'
  }
  let finite = vec4<f32>(ordered(scores.x), ordered(scores.y), ordered(scores.z), ordered(scores.w));
  return select(vec4<f32>(${LOWEST}), finite, vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(visible));
}`

/** Leaves a tile, square or not, in which no query sees a key. */
export const leaveUnseenTile = (causal: boolean, stride: number, rows: number): string =>
  causal
    ? `\
let last_query = i32((first_row + ${rows}u) * ${stride}u) - 1;
if (i32(first_column * ${stride}u) > last_query + u.query_offset) { return; }
`
    : ''

/** Portable tier: a tiled product of strided rows, four columns of which a lane sums up. */
export function emitAntidiagonalStatistics(options: AntidiagonalStatisticsOptions): KernelSource {
  const { dtype, headDim, stride, block, causal } = options
  const perUnit = elementsPerUnit(dtype)
  const tile = productTile(headDim)
  const { depth, pitch } = tile
  const perBlock = block / stride
  const blocks = TILE / perBlock
  const parts = TILE / 4
  const code = `\
${antidiagonalHeader(options)}
//
// 64 invocations compute ${TILE} × ${TILE} scores, 4 × 4 each, over ${depth * 4} dimensions at a time.
${uniformStruct('Uniforms', antidiagonalUniforms)}

${antidiagonalBindings(dtype)}

const STRIDE = ${stride}u;
const UNITS = ${headDim / perUnit}u;
const STAGED_UNITS = ${(depth * 4) / perUnit}u;

${tile.memory}
var<workgroup> parts: array<vec2<f32>, ${TILE * parts}>; // [row][four columns]

${seenScoresFunction(causal, stride)}

${softmaxPartFunction}

${joinPartsFunction}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = workgroup.z / u.query_heads;
  let head = workgroup.z % u.query_heads;
  let first_column = workgroup.x * ${TILE}u;
  let first_row = u.first_row + (u.first_tile + workgroup.y) * ${TILE}u;
  ${indent(leaveUnseenTile(causal, stride, TILE), 2)}\
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

  ${indent(
    tile.store(
      'u.scale',
      `parts[row * ${parts}u + local % 8u] = softmax_part(seen_scores(cells, first_row + row, first_column + cell_column));`,
    ),
    2,
  )}
  workgroupBarrier();

  let first_cell = (workgroup.z * u.rows + first_row - u.first_row) * u.key_blocks;
  for (var index = local; index < ${TILE * blocks}u; index += 64u) {
    let row = index / ${blocks}u;
    let block = first_column / ${perBlock}u + index % ${blocks}u;
    let first_part = row * ${parts}u + index % ${blocks}u * ${perBlock / 4}u;
    var all = parts[first_part];
    for (var i = 1u; i < ${perBlock / 4}u; i++) { all = join_parts(all, parts[first_part + i]); }
    if (first_row - u.first_row + row < u.rows && block < u.key_blocks) {
      statistics[first_cell + row * u.key_blocks + block] = all;
    }
  }
}
`
  return {
    label: 'antidiagonal-statistics',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: tile.workgroupBytes + TILE * parts * 8,
  }
}
