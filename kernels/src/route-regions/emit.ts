import type { KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { sortKeyFunction } from '../shared/sort-key.js'
import { uniformStruct } from '../shared/uniforms.js'

/** Regions whose affinities to one of them fit the kernel's workgroup memory: a grid of 32 × 32 regions. */
export const MAX_REGIONS = 1024

export const routeRegionsUniforms = {
  ...gridUniforms,
  regions: 'u32',
  /** Regions from left to right, and from top to bottom. */
  across: 'u32',
  down: 'u32',
  /** Query heads that route together, and those that share a KV head. */
  heads_together: 'u32',
  group_size: 'u32',
  /** Of four numbers in a head. */
  vectors: 'u32',
  top_k: 'u32',
  words: 'u32',
  /** What makes products of sums proportional to products of means: of all regions, and of the last row and column. */
  weight: 'f32',
  last_row_weight: 'f32',
  last_column_weight: 'f32',
  corner_weight: 'f32',
} as const

const INVOCATIONS = 64
const MAX_HEAD_DIM = 256

/** Affinities between regions and the k best of each, fused: one workgroup a region, its row in workgroup memory. */
export function emitRouteRegions(): KernelSource {
  const code = `\
// Routes between regions (BiFormer, arXiv 2303.08810, eq. 3 and 4): the affinity of region r to region c is the product of
// the means of r's queries and of c's keys, summed over the heads that route together; row r of the plan gets the top_k
// largest, ties to the lower index. NaN counts as −∞.
//
// A row's order does not change with a factor common to it, so the sums over a region stand for its mean: those of keys are
// multiplied by a weight that is inverse to the region's size. Weights are integers, so integers stay exact.
//
// q_sums f32 [B, Hq, regions, D], k_sums f32 [B, Hkv, regions, D]; plan u32 [B, Hq, regions, words], a bit a region.
//
// One workgroup of ${INVOCATIONS} for a region and the heads that route together. An invocation adds up the affinities of every
// ${INVOCATIONS}th region. No sort: affinities become u32 keys of the same order, and the key at the cut is found four bits a step.
${uniformStruct('Uniforms', routeRegionsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q_sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k_sums: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> plan: array<u32>;

var<workgroup> query: array<vec4<f32>, ${MAX_HEAD_DIM / 4}>;
var<workgroup> affinity: array<f32, ${MAX_REGIONS}>;
var<workgroup> keys: array<u32, ${MAX_REGIONS}>;
var<workgroup> bins: array<atomic<u32>, 128>; // keys with each value of each of their eight digits
var<workgroup> bits: array<atomic<u32>, ${MAX_REGIONS / 32}>;

${workgroupNumberFunction}

${sortKeyFunction}

fn weight_of(region: u32) -> f32 {
  let last_row = region / u.across + 1u == u.down;
  let last_column = region % u.across + 1u == u.across;
  return select(
    select(u.weight, u.last_column_weight, last_column),
    select(u.last_row_weight, u.corner_weight, last_column),
    last_row,
  );
}

@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let r = number % u.regions;
  // The first head, counted over the batch too.
  let first_head = number / u.regions * u.heads_together;

  for (var c = local; c < u.regions; c += ${INVOCATIONS}u) { affinity[c] = 0.0; }
  for (var head = first_head; head < first_head + u.heads_together; head++) {
    workgroupBarrier();
    for (var d = local; d < u.vectors; d += ${INVOCATIONS}u) { query[d] = q_sums[(head * u.regions + r) * u.vectors + d]; }
    workgroupBarrier();
    let kv_head = head / u.group_size;
    for (var c = local; c < u.regions; c += ${INVOCATIONS}u) {
      let first = (kv_head * u.regions + c) * u.vectors;
      var sum = 0.0;
      for (var d = 0u; d < u.vectors; d++) { sum += dot(query[d], k_sums[first + d]); }
      affinity[c] += sum;
    }
  }
  for (var c = local; c < u.regions; c += ${INVOCATIONS}u) { keys[c] = sort_key(bitcast<u32>(affinity[c] * weight_of(c))); }

  // The top_k-th largest key, digit by digit from the top, and how many of those that equal it are wanted.
  var cut = 0u;
  var wanted = min(u.top_k, u.regions);
  for (var step = 0u; step < 8u; step++) {
    let shift = 28u - 4u * step;
    let known = select(0xffffffffu << (shift + 4u), 0u, step == 0u);
    for (var c = local; c < u.regions; c += ${INVOCATIONS}u) {
      if ((keys[c] & known) == cut) { atomicAdd(&bins[16u * step + ((keys[c] >> shift) & 15u)], 1u); }
    }
    workgroupBarrier();
    var digit = 15u;
    for (; digit > 0u; digit--) {
      let count = atomicLoad(&bins[16u * step + digit]);
      if (count >= wanted) { break; }
      wanted -= count;
    }
    cut |= digit << shift;
  }

  for (var c = local; c < u.regions; c += ${INVOCATIONS}u) {
    var kept = keys[c] > cut;
    if (keys[c] == cut) {
      var ties_before = 0u;
      for (var other = 0u; other < c; other++) { ties_before += u32(keys[other] == cut); }
      kept = ties_before < wanted;
    }
    if (kept) { atomicOr(&bits[c / 32u], 1u << (c % 32u)); }
  }
  workgroupBarrier();
  for (var item = local; item < u.heads_together * u.words; item += ${INVOCATIONS}u) {
    let head = first_head + item / u.words;
    plan[(head * u.regions + r) * u.words + item % u.words] = atomicLoad(&bits[item % u.words]);
  }
}
`
  return {
    label: 'route-regions',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: MAX_HEAD_DIM * 4 + MAX_REGIONS * 8 + 512 + MAX_REGIONS / 8,
  }
}
