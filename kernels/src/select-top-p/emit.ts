import type { KernelSource } from '@sparse-attention/core'
import { blockGridUniforms, visibleBlocksFunction } from '../shared/blocks.js'
import { isForcedFunction, packSelection, workgroupSumFunction } from '../shared/selection.js'
import { uniformStruct } from '../shared/uniforms.js'

export const selectTopPUniforms = {
  ...blockGridUniforms,
  query_heads: 'u32',
  /** First entry of `top_p` for this layer. */
  first_p: 'u32',
} as const

/** Top-p selection of blocks without a sort, packed into the plan's bitmap: one workgroup a row of blocks. */
export function emitSelectTopP(causal: boolean): KernelSource {
  const code = `\
// Top-p over block weights: in the order "forced blocks, then others by weight", keeps a block while the sum before it
// is below p times the row's total (XAttention, arXiv 2503.16428, §2.2). Ties go to the lower index.
//
// weights f32 [heads, query_blocks, key_blocks], not negative; NaN counts as 0.
// top_p f32 [layers · query_heads]. plan u32[heads, query_blocks, words]: on entry the forced blocks, on return the selection.
// Rows whose weights sum to 0, and rows with p ≥ 1, keep every visible block.
//
// No sort: bits of non-negative floats order as the floats do, so the weight at the cut is found by bisection on the
// bits, 31 steps, each a sum over the row. Sums are in a fixed order, so they shrink as the cut rises, rounding included.
// One workgroup of 64 invocations a row of blocks.
${uniformStruct('Uniforms', selectTopPUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> top_p: array<f32>;
@group(0) @binding(3) var<storage, read_write> plan: array<u32>;

const NOTHING = 0xffffffffu; // above the bits of every weight

var<workgroup> partial: array<f32, 64>;
var<workgroup> tie_counts: array<u32, 64>;

${visibleBlocksFunction(causal)}

// Bits of a weight; NaN and negative numbers become 0.
fn weight_bits(index: u32) -> u32 {
  let bits = bitcast<u32>(weights[index]);
  return select(bits, 0u, bits > 0x7f800000u);
}

${isForcedFunction}

${workgroupSumFunction('f32')}

// Weight of the row's blocks that are not forced and whose bits are above the cut.
fn sum_above(row: u32, visible: u32, local: u32, cut: u32) -> f32 {
  var sum = 0.0;
  for (var c = local; c < visible; c += 64u) {
    let bits = weight_bits(row * u.key_blocks + c);
    if (bits > cut && !is_forced(row, c)) { sum += bitcast<f32>(bits); }
  }
  return workgroup_sum(local, sum);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = workgroup.y * u.query_blocks + workgroup.x;
  let visible = visible_blocks(workgroup.x);
  let p = top_p[u.first_p + workgroup.y % u.query_heads];

  var forced = 0.0;
  for (var c = local; c < visible; c += 64u) {
    if (is_forced(row, c)) { forced += bitcast<f32>(weight_bits(row * u.key_blocks + c)); }
  }
  let forced_sum = workgroup_sum(local, forced);
  let total = forced_sum + sum_above(row, visible, local, 0u);
  let wanted = p * total;
  let keep_all = p >= 1.0 || total == 0.0;

  // The lowest cut with forced_sum + sum_above(cut) < wanted: blocks above it are kept, blocks at it while there is room.
  var low = 0u;
  var high = 0x7f800000u;
  for (var i = 0u; i < 31u; i++) {
    let middle = (low + high) / 2u;
    let below = forced_sum + sum_above(row, visible, local, middle) < wanted;
    if (low < high) {
      if (below) { high = middle; } else { low = middle + 1u; }
    }
  }
  // When the forced blocks alone reach p, there is no such cut.
  let cut = select(low, NOTHING, forced_sum >= wanted);
  let before_ties = forced_sum + sum_above(row, visible, local, cut);

  // Pack: a word an invocation, 64 words at a time. A tie is kept while the sum before it is below p.
${packSelection({
  name: 'weight',
  key: 'weight_bits(row * u.key_blocks + c)',
  keep: 'keep_all || (weight > cut && cut != NOTHING)',
  keepTie: 'before_ties + f32(tie) * bitcast<f32>(weight) < wanted',
})}
}
`
  return {
    label: 'select-top-p',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 64 * 8,
  }
}
