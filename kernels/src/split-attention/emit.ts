import type { DType, KernelSource } from '@sparse-attention/core'
import { attentionCallUniforms } from '../shared/attention-call.js'
import { stripeListUniforms } from '../shared/stripe-lists.js'
import { uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, LOWEST, range, unitType, unpackUnit } from '../shared/wgsl.js'

export interface SplitAttentionOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  readonly causal: boolean
  /** Lanes that every subgroup has: products are then added by shuffles where enough lanes share a key. */
  readonly subgroupSize?: number
  /** Keys of a page, where keys and values lie in pages of a pool: a power of two. */
  readonly pageSize?: number
}

/** Invocations of a workgroup. */
const LANES = 128

export const splitAttentionUniforms = {
  ...attentionCallUniforms,
  /** Keys of a split. */
  span: 'u32',
  /** Query heads that share a list, and chunks of rows that they make. */
  heads_per_list: 'u32',
  row_chunks: 'u32',
  batch: 'u32',
  list_heads: 'u32',
  ...stripeListUniforms,
  /** Page ids that there is room for in a row of the page table; 0 without one. */
  table_width: 'u32',
} as const

/** How a workgroup is laid out: lanes of a key, 16-byte units of a lane, keys that a group of lanes takes at a time. */
export function splitTiling({ dtype, headDim, subgroupSize = 0 }: SplitAttentionOptions): {
  lanesPerKey: number
  unitsPerLane: number
  rows: number
  keysPerStep: number
  shuffles: boolean
} {
  const perUnit = elementsPerUnit(dtype)
  const units = headDim / perUnit
  const lanes = 2 ** Math.ceil(Math.log2(units))
  // Shuffles where a subgroup holds a whole key; else products pass through workgroup memory, fewer at a time.
  const shuffles = lanes <= subgroupSize
  const lanesPerKey = shuffles ? lanes : Math.min(lanes, 32)
  const [rows, keysPerStep] = shuffles ? [8, 4] : [4, 2]
  return { lanesPerKey, unitsPerLane: Math.ceil(units / lanesPerKey), rows, keysPerStep, shuffles }
}

/**
 * Attention of few queries over many keys, the first of two passes ("split-K", Flash-Decoding): each workgroup takes a span
 * of the keys and all query heads that share them, so that keys and values are read once.
 */
export function emitSplitAttention(options: SplitAttentionOptions): KernelSource {
  const { dtype, headDim, causal, pageSize } = options
  const { lanesPerKey, unitsPerLane, rows, keysPerStep, shuffles } = splitTiling(options)
  const groups = LANES / lanesPerKey
  const perUnit = elementsPerUnit(dtype)
  const vec4PerUnit = perUnit / 4
  const vectors = unitsPerLane * vec4PerUnit
  const products = rows * keysPerStep
  const targets = (array: string, row: string, n: number) =>
    range(vec4PerUnit).map((i) => `${array}[${row} * VECTORS + ${n * vec4PerUnit + i}u]`)

  /** Unpacks this lane's units of a row of k or v. No branches, so that loads of several keys overlap. */
  const load = (tensor: 'k' | 'v') =>
    range(unitsPerLane)
      .map(
        (n) => `\
let unit${n} = ${tensor}[${tensor}_head + key_rows[j] * u.${tensor}_row_stride + min(lane + ${n * lanesPerKey}u, UNITS - 1u)];
${unpackUnit(dtype, `unit${n}`, targets(`${tensor}_row`, 'j', n))}
if (!inside[j] || lane + ${n * lanesPerKey}u >= UNITS) { ${targets(`${tensor}_row`, 'j', n)
          .map((target) => `${target} = vec4<f32>();`)
          .join(' ')} }`,
      )
      .join('\n')

  const addUp = shuffles
    ? `\
for (var product = 0u; product < PRODUCTS; product++) {
  ${range(Math.log2(lanesPerKey))
    .map((bit) => `scores[product] += subgroupShuffleXor(scores[product], ${1 << bit}u);`)
    .join('\n  ')}
}`
    : `\
workgroupBarrier();
for (var product = 0u; product < PRODUCTS; product++) { products[product * LANES + local] = scores[product]; }
workgroupBarrier();
for (var product = lane; product < PRODUCTS; product += LANES_PER_KEY) {
  var sum = 0.0;
  for (var i = 0u; i < LANES_PER_KEY; i++) { sum += products[product * LANES + group * LANES_PER_KEY + i]; }
  sums[group * PRODUCTS + product] = sum;
}
workgroupBarrier();
for (var product = 0u; product < PRODUCTS; product++) { scores[product] = sums[group * PRODUCTS + product]; }`

  const code = `\
// Attention of few query rows over many keys, first pass: each workgroup attends over a span of the keys, and a
// second one merges the results. Flash-Decoding (Dao et al. 2023); ${causal ? 'causal (bottom-right)' : 'not causal'}, ${dtype} storage, f32 math.
//
// Axes: B batch, Hq and Hkv query and KV heads, Lq and Lk lengths, D = ${headDim}, P splits.
// q [B, Hq, Lq, D], k and v [B, Hkv, Lk, D] ${dtype}, strided; part_out f32 [P, B, Hq, Lq, D], part_statistics f32
// [P, B, Hq, Lq, 2]: a row's largest score in base 2, and the sum of its weights below that.
// counts and indices: the lists of a stripe plan with one block of queries.
${pageSize === undefined ? '' : `// k and v are pools [1, Hkv, pages · ${pageSize}, D]. pages u32[B, 1 + width]: the number of keys of a sequence, then its pages.\n`}//
// Workgroup (split, list head, batch · row chunk): ${groups} groups of ${lanesPerKey} lanes. A group takes ${keysPerStep} keys at a time, a lane ${unitsPerLane} of
// their 16-byte units, for ${rows} query rows that share the keys.
${uniformStruct('Uniforms', splitAttentionUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read> k: array<${unitType(dtype)}>;
@group(0) @binding(3) var<storage, read> v: array<${unitType(dtype)}>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read> indices: array<u32>;
@group(0) @binding(6) var<storage, read_write> part_out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> part_statistics: array<vec2<f32>>;
${pageSize === undefined ? '' : '@group(0) @binding(8) var<storage, read> pages: array<u32>;\n'}
const LANES = ${LANES}u;
const LANES_PER_KEY = ${lanesPerKey}u;
const GROUPS = ${groups}u;
const KEYS = ${keysPerStep}u; // of a group, at a time
const ROWS = ${rows}u;
const UNITS = ${headDim / perUnit}u; // 16-byte units of a row
const PRODUCTS = ${products}u;
const VECTORS = ${vectors}u; // vec4 of a lane's units of a row

${shuffles ? '' : `var<workgroup> products: array<f32, ${products * LANES}>;\nvar<workgroup> sums: array<f32, ${products * groups}>;\n`}var<workgroup> merged: array<vec4<f32>, ${vectors * LANES}>;
var<workgroup> maxima: array<f32, ${groups}>;
var<workgroup> sums_of_rows: array<f32, ${groups}>;

// The key at a position of the lists, one behind another.
fn key_at(position: u32, first: u32, list_row: u32) -> u32 {
  if (u.dense == 1u) { return position; }
  if (position < first) { return indices[list_row * u.capacity_0 + position / u.width_0] + position % u.width_0; }
  let rest = position - first;
  let list = u.batch * u.list_heads * u.capacity_0 + list_row * u.capacity_1;
  return indices[list + rest / u.width_1] + rest % u.width_1;
}

// Where a key of a sequence lies in k and v.
fn row_of(key: u32, batch: u32) -> u32 {
  ${pageSize === undefined ? 'return key;' : `return pages[batch * (u.table_width + 1u) + 1u + key / ${pageSize}u] * ${pageSize}u + key % ${pageSize}u;`}
}

// The sum of the groups' accumulators of one row, by their maxima.
fn write_row(batch: u32, list_head: u32, row: u32, split: u32, local: u32) {
  if (row >= u.heads_per_list * u.query_length) { return; }
  var largest = ${LOWEST};
  for (var i = 0u; i < GROUPS; i++) { largest = max(largest, maxima[i]); }
  var sum = 0.0;
  for (var i = 0u; i < GROUPS; i++) { sum += sums_of_rows[i] * exp2(max(maxima[i] - largest, -1000.0)); }
  let empty = sum == 0.0;
  let head = list_head * u.heads_per_list + row / u.query_length;
  let at = ((split * u.batch + batch) * u.query_heads + head) * u.query_length + row % u.query_length;
  if (local < LANES_PER_KEY) {
    for (var i = 0u; i < VECTORS; i++) {
      let unit = local + i / ${vec4PerUnit}u * LANES_PER_KEY;
      if (unit >= UNITS) { continue; }
      var total = vec4<f32>();
      for (var g = 0u; g < GROUPS; g++) {
        total += merged[i * LANES + g * LANES_PER_KEY + local] * exp2(max(maxima[g] - largest, -1000.0));
      }
      part_out[(at * UNITS + unit) * ${vec4PerUnit}u + i % ${vec4PerUnit}u] = total * select(1.0 / sum, 0.0, empty);
    }
  }
  if (local == 0u) { part_statistics[at] = vec2<f32>(largest, sum); }
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let list_head = workgroup.y;
  let batch = workgroup.z / u.row_chunks;
  let first_row = workgroup.z % u.row_chunks * ROWS;
  let kv_head = list_head * u.heads_per_list / u.group_size;
  let lane = local % LANES_PER_KEY;
  let group = local / LANES_PER_KEY;
  let k_head = u.k_offset + batch * u.k_batch_stride + kv_head * u.k_head_stride;
  let v_head = u.v_offset + batch * u.v_batch_stride + kv_head * u.v_head_stride;

  let list_row = batch * u.list_heads + list_head;
  let key_length = ${pageSize === undefined ? 'u.key_length' : 'min(pages[batch * (u.table_width + 1u)], u.key_length)'};
  var first = key_length;
  var positions = key_length;
  if (u.dense == 0u) {
    first = u.width_0 * min(counts[list_row], u.capacity_0);
    positions = first;
    if (u.lists > 1u) { positions += u.width_1 * min(counts[u.batch * u.list_heads + list_row], u.capacity_1); }
  }
  let start = min(workgroup.x * u.span, positions);
  let end = min(start + u.span, positions);

  var query: array<vec4<f32>, ROWS * VECTORS>;
  var acc: array<vec4<f32>, ROWS * VECTORS>;
  var row_end: array<u32, ROWS>; // keys before it are visible
  var row_max: array<f32, ROWS>;
  var row_sum: array<f32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    row_max[r] = ${LOWEST};
    if (first_row + r < u.heads_per_list * u.query_length) {
      let head = list_head * u.heads_per_list + (first_row + r) / u.query_length;
      let row = (first_row + r) % u.query_length;
      row_end[r] = ${causal ? 'u32(clamp(i32(row + 1u + key_length) - i32(u.query_length), 0, i32(key_length)))' : 'key_length'};
      let at = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row * u.q_row_stride + lane;
      ${range(unitsPerLane)
        .map(
          (n) => `if (lane + ${n * lanesPerKey}u < UNITS) {
        let unit = q[at + ${n * lanesPerKey}u];
        ${indent(unpackUnit(dtype, 'unit', targets('query', 'r', n)), 8)}
      }`,
        )
        .join('\n      ')}
    }
  }
  for (var i = 0u; i < ROWS * VECTORS; i++) { query[i] *= u.scale; }

  for (var step = start; step < end; step += GROUPS * KEYS) {
    var keys: array<u32, KEYS>;
    var key_rows: array<u32, KEYS>;
    var inside: array<bool, KEYS>;
    var k_row: array<vec4<f32>, KEYS * VECTORS>;
    var v_row: array<vec4<f32>, KEYS * VECTORS>;
    for (var j = 0u; j < KEYS; j++) {
      let position = step + group * KEYS + j;
      if (position < end) { keys[j] = key_at(position, first, list_row); }
      inside[j] = position < end && keys[j] < key_length;
      keys[j] = select(0u, keys[j], inside[j]);
      key_rows[j] = row_of(keys[j], batch);
    }
    for (var j = 0u; j < KEYS; j++) {
      ${indent(load('k'), 6)}
    }
    var scores: array<f32, PRODUCTS>;
    for (var j = 0u; j < KEYS; j++) {
      for (var r = 0u; r < ROWS; r++) {
        var score = 0.0;
        for (var i = 0u; i < VECTORS; i++) { score += dot(query[r * VECTORS + i], k_row[j * VECTORS + i]); }
        scores[j * ROWS + r] = score;
      }
    }
    ${indent(addUp, 4)}
    for (var j = 0u; j < KEYS; j++) {
      ${indent(load('v').replaceAll('unit', 'value'), 6)}
    }
    for (var r = 0u; r < ROWS; r++) {
      var top = ${LOWEST};
      for (var j = 0u; j < KEYS; j++) {
        if (inside[j] && keys[j] < row_end[r]) { top = max(top, scores[j * ROWS + r]); }
      }
      if (top > row_max[r]) {
        // The difference may overflow on huge logits; any number below −126 gives the same 0.
        let rescale = exp2(max(row_max[r] - top, -1000.0));
        row_max[r] = top;
        row_sum[r] *= rescale;
        for (var i = 0u; i < VECTORS; i++) { acc[r * VECTORS + i] *= rescale; }
      }
      for (var j = 0u; j < KEYS; j++) {
        // A key that this row does not see adds nothing, also where its value is NaN.
        if (inside[j] && keys[j] < row_end[r]) {
          let weight = exp2(scores[j * ROWS + r] - row_max[r]);
          row_sum[r] += weight;
          for (var i = 0u; i < VECTORS; i++) { acc[r * VECTORS + i] += weight * v_row[j * VECTORS + i]; }
        }
      }
    }
  }
  for (var r = 0u; r < ROWS; r++) {
    workgroupBarrier();
    if (lane == 0u) {
      maxima[group] = row_max[r];
      sums_of_rows[group] = row_sum[r];
    }
    for (var i = 0u; i < VECTORS; i++) { merged[i * LANES + local] = acc[r * VECTORS + i]; }
    workgroupBarrier();
    write_row(batch, list_head, first_row + r, workgroup.x, local);
  }
}
`
  return {
    label: 'split-attention',
    code: shuffles ? `enable subgroups;\n${code}` : code,
    bindings: [
      'uniform',
      'read',
      'read',
      'read',
      'read',
      'read',
      'read_write',
      'read_write',
      ...(pageSize === undefined ? [] : (['read'] as const)),
    ],
    workgroupSize: LANES,
    workgroupBytes: 16 * vectors * LANES + 8 * groups + (shuffles ? 0 : 4 * products * (LANES + groups)),
  }
}
