import type { KernelSource } from '@sparse-attention/core'
import { blockGridUniforms, visibleBlocksFunction } from '../shared/blocks.js'
import { isForcedFunction, packSelection, workgroupSumFunction } from '../shared/selection.js'
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
// No sort: scores become u32 keys of the same order, and the key at the cut is found by bisection, 32 steps, each a count
// over the row. One workgroup of 64 invocations a row of blocks.
${uniformStruct('Uniforms', selectTopKUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<u32>; // bits of f32, so that NaN and −0 arrive as they are
@group(0) @binding(2) var<storage, read_write> plan: array<u32>;

const NOTHING = 0xffffffffu; // above the key of every score

var<workgroup> partial: array<u32, 64>;
var<workgroup> tie_counts: array<u32, 64>;

${visibleBlocksFunction(causal)}

${sortKeyFunction}

${isForcedFunction}

${workgroupSumFunction('u32')}

// How many of the row's blocks are not forced and have keys above the cut.
fn count_above(row: u32, first_score: u32, visible: u32, local: u32, cut: u32) -> u32 {
  var count = 0u;
  for (var c = local; c < visible; c += 64u) {
    if (sort_key(scores[first_score + c]) > cut && !is_forced(row, c)) { count++; }
  }
  return workgroup_sum(local, count);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let a = u.first_row + workgroup.x;
  let row = workgroup.y * u.query_blocks + a;
  let first_score = (workgroup.y * u.rows + workgroup.x) * u.key_blocks;
  let visible = visible_blocks(a);

  var forced = 0u;
  for (var word = local; word < u.words; word += 64u) { forced += countOneBits(plan[row * u.words + word]); }
  let room = u.top_k - min(workgroup_sum(local, forced), u.top_k);

  // The lowest cut with fewer blocks above it than there is room for: they are kept, blocks at it while there is room.
  // Without room there is none, and the search ends at NOTHING.
  var low = 0u;
  var high = NOTHING;
  for (var i = 0u; i < 32u; i++) {
    let middle = low + (high - low) / 2u;
    let below = count_above(row, first_score, visible, local, middle) < room;
    if (low < high) {
      if (below) { high = middle; } else { low = middle + 1u; }
    }
  }
  let cut = low;
  let before_ties = count_above(row, first_score, visible, local, cut);

  // Pack: a word an invocation, 64 words at a time.
${packSelection({
  name: 'key',
  key: 'sort_key(scores[first_score + c])',
  keep: 'key > cut',
  keepTie: 'before_ties + tie < room',
})}
}
`
  return {
    label: 'select-top-k',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 64 * 8,
  }
}
