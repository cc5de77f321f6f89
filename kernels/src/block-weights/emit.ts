import type { KernelSource } from '@sparse-attention/core'
import { joinPartsFunction } from '../shared/softmax-part.js'
import { uniformStruct } from '../shared/uniforms.js'
import { LOWEST } from '../shared/wgsl.js'

export const blockWeightsUniforms = {
  /** Rows of this chunk, and the first of them among all. */
  rows: 'u32',
  first_row: 'u32',
  query_offset: 'i32',
  query_blocks: 'u32',
  key_blocks: 'u32',
} as const

const INVOCATIONS = 256

export interface BlockWeightsOptions {
  /** Tokens between strided rows, and tokens per block of queries and of keys. */
  readonly stride: number
  readonly block: number
  readonly causal: boolean
}

/** Softmax weights of blocks from the statistics of their rows: one workgroup a block of queries. */
export function emitBlockWeights({ stride, block, causal }: BlockWeightsOptions): KernelSource {
  const perBlock = block / stride
  const lanes = INVOCATIONS / perBlock
  const code = `\
// weights[a, c] = Σ over the rows u of query block a of softmax(scores[u, …]) summed over key block c, from statistics of
// the scores: (m, Σ exp(score − m)) for each row and key block.${causal ? ' Key blocks that no row sees get 0.' : ''}
//
// statistics f32 [heads, rows, key_blocks, 2], of the strided rows first_row … first_row + rows; weights f32 [heads,
// query_blocks, key_blocks], of which those rows' blocks are written.
//
// One workgroup of ${INVOCATIONS} a block of queries: ${lanes} lanes a row find its softmax, then a lane sums a key block over the rows.
${uniformStruct('Uniforms', blockWeightsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> weights: array<f32>;

var<workgroup> parts: array<vec2<f32>, ${INVOCATIONS}>;
var<workgroup> softmax: array<vec2<f32>, ${perBlock}>; // of each row: largest score, inverse sum

${joinPartsFunction}

// Key blocks of which a row sees a key.
fn seen_blocks(row: u32) -> u32 {
  ${
    causal
      ? `let last_key = i32((u.first_row + row + 1u) * ${stride}u) - 1 + u.query_offset;
  return select(0u, min(u32(max(last_key, 0)) / ${block}u + 1u, u.key_blocks), last_key >= 0);`
      : 'return u.key_blocks;'
  }
}

@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first_row = workgroup.x * ${perBlock}u;
  let rows = min(u.rows - first_row, ${perBlock}u);
  let start = (workgroup.y * u.rows + first_row) * u.key_blocks;

  let row = local / ${lanes}u;
  var part = vec2<f32>(${LOWEST}, 0.0);
  if (row < rows) {
    let seen = seen_blocks(first_row + row);
    for (var c = local % ${lanes}u; c < seen; c += ${lanes}u) { part = join_parts(part, statistics[start + row * u.key_blocks + c]); }
  }
  parts[local] = part;
  workgroupBarrier();
  if (local < rows) {
    var all = parts[local * ${lanes}u];
    for (var i = 1u; i < ${lanes}u; i++) { all = join_parts(all, parts[local * ${lanes}u + i]); }
    // A row of nothing but NaN, or that sees no key, has no weights.
    softmax[local] = vec2<f32>(all.x, select(1.0 / all.y, 0.0, all.y == 0.0));
  }
  workgroupBarrier();

  let row_of_weights = (workgroup.y * u.query_blocks + u.first_row / ${perBlock}u + workgroup.x) * u.key_blocks;
  for (var c = local; c < u.key_blocks; c += ${INVOCATIONS}u) {
    var sum = 0.0;
    for (var i = 0u; i < rows; i++) {
      if (c < seen_blocks(first_row + i)) {
        let statistic = statistics[start + i * u.key_blocks + c];
        sum += statistic.y * exp(max(statistic.x - softmax[i].x, -1000.0)) * softmax[i].y;
      }
    }
    weights[row_of_weights + c] = sum;
  }
}
`
  return {
    label: 'block-weights',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: 8 * (INVOCATIONS + perBlock),
  }
}
