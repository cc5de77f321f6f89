import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'
import { LOWEST, orderedFunction } from '../shared/wgsl.js'

export const selectClustersUniforms = {
  query_heads: 'u32',
  group_size: 'u32',
  query_clusters: 'u32',
  key_clusters: 'u32',
  words: 'u32',
  /** Clusters of largest weight that are kept whatever they weigh, of each row. */
  fewest: 'u32',
  /** 1: the last cluster of queries keeps everything. */
  last_keeps_all: 'u32',
  /** 1: the last cluster of keys is kept by everyone. */
  last_is_kept: 'u32',
  top_p: 'f32',
} as const

const INVOCATIONS = 64

/** Top-p selection of clusters of keys by what their centroids promise: one workgroup a cluster of queries. */
export function emitSelectClusters(): KernelSource {
  const code = `\
// Top-p over clusters of keys (SVG2, arXiv 2505.18875, §4.2): the weight of cluster j for a cluster of queries is sizes[j] ·
// exp(score[j] − largest), and in order of weight a cluster is kept while the sum before it is at most p times the row's
// total, or while fewer than \`fewest\` are kept. Ties go to the lower index. Clusters without keys are never kept, and have no
// part in the largest score; scores of NaN weigh nothing. Rows without weight, and p ≥ 1, keep every cluster with keys.
//
// scores f32 [B·Hq, query_clusters, key_clusters]: on return the weights. sizes u32 [B·Hkv, key_clusters].
// plan u32 [B·Hq, query_clusters, words], written.
//
// No sort: bits of non-negative floats order as the floats do, so the weight at the cut is found by bisection on the bits,
// each step a sum over the row in a fixed order. One workgroup of ${INVOCATIONS} a row.
${uniformStruct('Uniforms', selectClustersUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> scores: array<f32>;
@group(0) @binding(2) var<storage, read> sizes: array<u32>;
@group(0) @binding(3) var<storage, read_write> plan: array<u32>;

var<workgroup> partial: array<vec2<f32>, ${INVOCATIONS}>;
var<workgroup> tie_counts: array<u32, ${INVOCATIONS}>;

${orderedFunction}

struct Above {
  sum: f32,
  count: f32, // at most 4096: exact
}

// Weight and number of the row's clusters whose key is above the cut.
fn above(first: u32, first_size: u32, local: u32, cut: u32) -> Above {
  var sum = 0.0;
  var count = 0.0;
  for (var c = local; c < u.key_clusters; c += ${INVOCATIONS}u) {
    if (key_of(first, first_size, c) > cut) {
      sum += scores[first + c];
      count += 1.0;
    }
  }
  workgroupBarrier();
  partial[local] = vec2<f32>(sum, count);
  workgroupBarrier();
  var all = vec2<f32>();
  for (var i = 0u; i < min(${INVOCATIONS}u, u.key_clusters); i++) { all += partial[i]; }
  return Above(all.x, all.y);
}

// Orders clusters by weight: 0 without keys, else the bits of the weight and one.
fn key_of(first: u32, first_size: u32, c: u32) -> u32 {
  if (sizes[first_size + c] == 0u) { return 0u; }
  return bitcast<u32>(scores[first + c]) + 1u;
}

// Is a cluster kept that comes behind so many of such a sum?
fn takes(sum: f32, count: f32, wanted: f32) -> bool {
  return sum <= wanted || count < f32(u.fewest);
}

@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.y;
  let row = head * u.query_clusters + workgroup.x;
  let first = row * u.key_clusters;
  let kv_heads = u.query_heads / u.group_size;
  let first_size = (head / u.query_heads * kv_heads + head % u.query_heads / u.group_size) * u.key_clusters;

  var largest = ${LOWEST};
  for (var c = local; c < u.key_clusters; c += ${INVOCATIONS}u) {
    if (sizes[first_size + c] != 0u) { largest = max(largest, ordered(scores[first + c])); }
  }
  partial[local] = vec2<f32>(largest, 0.0);
  workgroupBarrier();
  for (var i = 0u; i < min(${INVOCATIONS}u, u.key_clusters); i++) { largest = max(largest, partial[i].x); }
  for (var c = local; c < u.key_clusters; c += ${INVOCATIONS}u) {
    let size = sizes[first_size + c];
    let score = ordered(scores[first + c]);
    // The clamp keeps the difference of huge scores finite.
    scores[first + c] = select(f32(size) * exp(max(score - largest, -1000.0)), 0.0, size == 0u || score == ${LOWEST});
  }
  storageBarrier();

  let total = above(first, first_size, local, 0u).sum;
  let wanted = u.top_p * total;
  let keep_all = u.top_p >= 1.0 || total == 0.0 || (u.last_keeps_all == 1u && workgroup.x == u.query_clusters - 1u);

  // The lowest cut behind whose better clusters one is still taken: those above it are kept, those at it while they are taken.
  var low = 1u;
  var high = 0x7f800001u;
  for (var i = 0u; i < 31u; i++) {
    let middle = (low + high) / 2u;
    let better = above(first, first_size, local, middle);
    let taken = takes(better.sum, better.count, wanted);
    if (low < high) {
      if (taken) { high = middle; } else { low = middle + 1u; }
    }
  }
  let cut = low;
  let before = above(first, first_size, local, cut);

  // A word an invocation, ${INVOCATIONS} of them at a time; ties in order.
  var ties_before = 0u;
  for (var first_word = 0u; first_word < u.words; first_word += ${INVOCATIONS}u) {
    let word = first_word + local;
    let end = min((word + 1u) * 32u, u.key_clusters);
    var ties = 0u;
    for (var c = word * 32u; c < end; c++) { ties += u32(key_of(first, first_size, c) == cut); }
    workgroupBarrier();
    tie_counts[local] = ties;
    workgroupBarrier();
    var tie = ties_before;
    for (var i = 0u; i < ${INVOCATIONS}u; i++) {
      if (i < local) { tie += tie_counts[i]; }
      ties_before += tie_counts[i];
    }
    if (word < u.words) {
      var bits = 0u;
      for (var c = word * 32u; c < end; c++) {
        let key = key_of(first, first_size, c);
        var kept = key > cut || (key != 0u && (keep_all || (u.last_is_kept == 1u && c + 1u == u.key_clusters)));
        if (key == cut) {
          kept = kept || takes(before.sum + f32(tie) * scores[first + c], before.count + f32(tie), wanted);
          tie++;
        }
        if (kept) { bits |= 1u << (c & 31u); }
      }
      plan[row * u.words + word] = bits;
    }
  }
}
`
  return {
    label: 'select-clusters',
    code,
    bindings: ['uniform', 'read_write', 'read', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: INVOCATIONS * 12,
  }
}
