import type { KernelSource } from '@sparse-attention/core'
import { blockGridUniforms, visibleBlocksFunction } from '../shared/blocks.js'
import { isForcedFunction, packSelection } from '../shared/selection.js'
import { sortKeyFunction } from '../shared/sort-key.js'
import { uniformStruct } from '../shared/uniforms.js'

export const selectTopKUniforms = {
  ...blockGridUniforms,
  top_k: 'u32',
  /** First query block of this chunk, and query blocks of the chunk: the rows of `scores` per head. */
  first_row: 'u32',
  rows: 'u32',
} as const

/** Top-k selection of blocks without a sort, packed into the plan's bitmap: one workgroup a row of blocks. */
export function emitSelectTopK(causal: boolean): KernelSource {
  const code = `\
// Top-k over block scores: adds to each row's forced blocks those of largest score until it holds k, forced ones
// included. Ties go to the lower index; rows with at most k visible blocks keep them all.
//
// scores f32 [heads, rows, key_blocks] of query blocks first_row … first_row + rows, any sign; NaN counts as −∞.
// plan u32[heads, query_blocks, words]: on entry the forced blocks, on return the selection.
//
// No sort: scores become u32 keys of the same order, and the key at the cut is found digit by digit from the top, 8 bits a
// step, each a histogram of the keys that share the digits so far. One workgroup of 64 invocations a row of blocks.
${uniformStruct('Uniforms', selectTopKUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<u32>; // bits of f32, so that NaN and −0 arrive as they are
@group(0) @binding(2) var<storage, read_write> plan: array<u32>;

const NOTHING = 0xffffffffu; // above the key of every score

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> counts: array<u32, 64>;
var<workgroup> digit_at_cut: u32;
var<workgroup> found_above: u32;
var<workgroup> tie_counts: array<u32, 64>;

${visibleBlocksFunction(causal)}

${sortKeyFunction}

${isForcedFunction}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let a = u.first_row + workgroup.x;
  let row = workgroup.y * u.query_blocks + a;
  let first_score = (workgroup.y * u.rows + workgroup.x) * u.key_blocks;
  let visible = visible_blocks(a);

  var forced = 0u;
  for (var word = local; word < u.words; word += 64u) { forced += countOneBits(plan[row * u.words + word]); }
  counts[local] = forced;
  workgroupBarrier();
  forced = 0u;
  for (var i = 0u; i < 64u; i++) { forced += counts[i]; }
  // Blocks to add: the others, as far as there is room.
  let wanted = min(u.top_k - min(forced, u.top_k), visible - min(forced, visible));

  // The key of the wanted-th of the others, and how many of them are above it.
  var cut = 0u;
  var above = 0u;
  for (var step = 0u; step < 4u; step++) {
    let shift = 24u - 8u * step;
    let known = select(0xffffffffu << (shift + 8u), 0u, step == 0u);
    for (var i = 0u; i < 4u; i++) { atomicStore(&bins[local * 4u + i], 0u); }
    workgroupBarrier();
    for (var c = local; c < visible; c += 64u) {
      let key = sort_key(scores[first_score + c]);
      if ((key & known) == cut && !is_forced(row, c)) { atomicAdd(&bins[(key >> shift) & 255u], 1u); }
    }
    workgroupBarrier();
    var own = 0u;
    for (var i = 0u; i < 4u; i++) { own += atomicLoad(&bins[local * 4u + i]); }
    counts[local] = own;
    workgroupBarrier();
    var reached = above;
    for (var i = local + 1u; i < 64u; i++) { reached += counts[i]; }
    for (var i = 4u; i > 0u; i--) {
      let digit = local * 4u + i - 1u;
      let count = atomicLoad(&bins[digit]);
      if (reached < wanted && reached + count >= wanted) {
        digit_at_cut = digit;
        found_above = reached;
      }
      reached += count;
    }
    workgroupBarrier();
    cut |= digit_at_cut << shift;
    above = found_above;
  }
  if (wanted == 0u) { cut = NOTHING; }

  // Pack: a word an invocation, 64 words at a time.
${packSelection({
  name: 'key',
  key: 'sort_key(scores[first_score + c])',
  keep: 'key > cut',
  keepTie: 'above + tie < wanted',
})}
}
`
  return {
    label: 'select-top-k',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 256 * 4 + 2 * 64 * 4 + 8,
  }
}
