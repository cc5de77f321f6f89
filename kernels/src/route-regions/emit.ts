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
// ${INVOCATIONS}th region, then counts for each of them how many come before it.
${uniformStruct('Uniforms', routeRegionsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q_sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k_sums: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> plan: array<u32>;

var<workgroup> query: array<vec4<f32>, ${MAX_HEAD_DIM / 4}>;
var<workgroup> affinity: array<f32, ${MAX_REGIONS}>;
var<workgroup> keys: array<vec4<u32>, ${MAX_REGIONS / 4}>; // 0 behind the last region: below every key
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

fn key_of(c: u32) -> u32 {
  if (c >= u.regions) { return 0u; }
  return sort_key(bitcast<u32>(affinity[c] * weight_of(c)));
}

@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let r = number % u.regions;
  // The first head, counted over the batch too.
  let first_head = number / u.regions * u.heads_together;

  if (local < ${MAX_REGIONS / 32}u) { atomicStore(&bits[local], 0u); }
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
  workgroupBarrier();
  let quads = (u.regions + 3u) / 4u;
  for (var i = local; i < quads; i += ${INVOCATIONS}u) {
    keys[i] = vec4<u32>(key_of(4u * i), key_of(4u * i + 1u), key_of(4u * i + 2u), key_of(4u * i + 3u));
  }
  workgroupBarrier();
  for (var c = local; c < u.regions; c += ${INVOCATIONS}u) {
    let key = keys[c / 4u][c % 4u];
    var counts = vec4<u32>();
    for (var i = 0u; i < quads; i++) {
      // An equal key of a lower index comes before this one too: there it must exceed one less.
      let lower = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(c);
      counts += select(vec4<u32>(), vec4<u32>(1u), keys[i] > select(vec4<u32>(key), vec4<u32>(key - 1u), lower));
    }
    let before = counts.x + counts.y + counts.z + counts.w;
    if (before < u.top_k) { atomicOr(&bits[c / 32u], 1u << (c % 32u)); }
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
    workgroupBytes: MAX_HEAD_DIM * 4 + MAX_REGIONS * 8 + MAX_REGIONS / 8,
  }
}
