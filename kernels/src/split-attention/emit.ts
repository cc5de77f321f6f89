import type { DType, KernelSource } from '@sparse-attention/core'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, LOWEST, range, unitType, unpackUnit } from '../shared/wgsl.js'

export interface SplitAttentionOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  readonly causal: boolean
  /** Lanes that every subgroup has: products are then added by shuffles where enough lanes share a key. */
  readonly subgroupSize?: number
}

/** Invocations of a workgroup. */
const LANES = 128

export const splitAttentionUniforms = {
  ...addressFields('q'),
  ...addressFields('k'),
  ...addressFields('v'),
  query_heads: 'u32',
  group_size: 'u32',
  query_length: 'u32',
  key_length: 'u32',
  /** key_length − query_length: query i sees keys j ≤ i + query_offset. */
  query_offset: 'i32',
  /** scale · log2(e): scores are in base 2. */
  scale: 'f32',
  /** 1: every key is computed and the lists are not read. */
  dense: 'u32',
  /** Keys of a split. */
  span: 'u32',
  /** Query heads that share a list, and chunks of rows that they make. */
  heads_per_list: 'u32',
  row_chunks: 'u32',
  batch: 'u32',
  list_heads: 'u32',
  lists: 'u32',
  width_0: 'u32',
  capacity_0: 'u32',
  width_1: 'u32',
  capacity_1: 'u32',
} as const

/** How a workgroup is laid out: lanes of a key, 16-byte units of a lane, keys that a group of lanes takes at a time. */
export function splitTiling({ dtype, headDim, subgroupSize = 0 }: SplitAttentionOptions): {
  lanesPerKey: number
  unitsPerLane: number
  rows: number
  keysPerStep: number
  shuffles: boolean
} {
  const units = headDim / elementsPerUnit(dtype)
  const lanes = 2 ** Math.ceil(Math.log2(units))
  // A lane holds q and the accumulator of all rows: few units, or the registers do not suffice.
  const shuffles = subgroupSize > 0 && Math.ceil(units / Math.min(lanes, subgroupSize)) <= 2
  const lanesPerKey = Math.min(lanes, shuffles ? subgroupSize : 32)
  // Without shuffles, products pass through workgroup memory: fewer at a time.
  const [rows, keysPerStep] = shuffles ? [8, 4] : [4, 2]
  return { lanesPerKey, unitsPerLane: Math.ceil(units / lanesPerKey), rows, keysPerStep, shuffles }
}

/**
 * Attention of few queries over many keys, the first of two passes ("split-K", Flash-Decoding): each workgroup takes a span
 * of the keys and all query heads that share them, so that keys and values are read once.
 */
export function emitSplitAttention(options: SplitAttentionOptions): KernelSource {
  const { dtype, headDim, causal } = options
  const { lanesPerKey, unitsPerLane, rows, keysPerStep, shuffles } = splitTiling(options)
  const groups = LANES / lanesPerKey
  const perUnit = elementsPerUnit(dtype)
  const vec4PerUnit = perUnit / 4
  const vectors = unitsPerLane * vec4PerUnit
  const R = range(rows)
  const K = range(keysPerStep)
  const V = range(vectors)
  const products = rows * keysPerStep

  /** Unpacks this lane's units of a row of k or v into vec4 variables; what is not there stays 0. */
  const load = (tensor: 'k' | 'v', key: number, into: string) => `\
${V.map((i) => `var ${into}${key}_${i} = vec4<f32>();`).join(' ')}
if (inside${key}) {
  ${range(unitsPerLane)
    .map((n) => {
      const targets = range(vec4PerUnit).map((i) => `${into}${key}_${n * vec4PerUnit + i}`)
      return `if (lane + ${n * lanesPerKey}u < UNITS) {
    let unit = ${tensor}[${tensor}_head + key${key} * u.${tensor}_row_stride + lane + ${n * lanesPerKey}u];
    ${indent(unpackUnit(dtype, 'unit', targets), 4)}
  }`
    })
    .join('\n  ')}
}`

  const addUp = shuffles
    ? K.flatMap((key) =>
        R.map((r) => {
          const steps = range(Math.log2(lanesPerKey)).map(
            (bit) => `s${key}_${r} += subgroupShuffleXor(s${key}_${r}, ${1 << bit}u);`,
          )
          return steps.join(' ')
        }),
      ).join('\n')
    : `\
workgroupBarrier();
${K.flatMap((key) => R.map((r) => `products[${key * rows + r}u * LANES + local] = s${key}_${r};`)).join('\n')}
workgroupBarrier();
for (var product = lane; product < PRODUCTS; product += LANES_PER_KEY) {
  var sum = 0.0;
  for (var i = 0u; i < LANES_PER_KEY; i++) { sum += products[product * LANES + group * LANES_PER_KEY + i]; }
  sums[group * PRODUCTS + product] = sum;
}
workgroupBarrier();
${K.flatMap((key) => R.map((r) => `s${key}_${r} = sums[group * PRODUCTS + ${key * rows + r}u];`)).join('\n')}`

  const update = (r: number) => `\
{
  ${K.map((key) => `let seen${key} = inside${key} && key${key} < row_end${r};`).join('\n  ')}
  ${K.map((key) => `let score${key} = select(${LOWEST}, s${key}_${r}, seen${key});`).join('\n  ')}
  let top = ${K.slice(1).reduce((max, key) => `max(${max}, score${key})`, 'score0')};
  if (top > row_max${r}) {
    // The difference may overflow on huge logits; any number below −126 gives the same 0.
    let rescale = exp2(max(row_max${r} - top, -1000.0));
    row_max${r} = top;
    row_sum${r} *= rescale;
    ${V.map((i) => `acc${r}_${i} *= rescale;`).join(' ')}
  }
  ${K.map((key) => `let p${key} = select(0.0, exp2(score${key} - row_max${r}), seen${key});`).join('\n  ')}
  row_sum${r} += ${K.map((key) => `p${key}`).join(' + ')};
  // A key that this row does not see adds nothing, also where its value is NaN.
  ${V.map((i) => `acc${r}_${i} += ${K.map((key) => `select(vec4<f32>(), p${key} * v${key}_${i}, seen${key})`).join(' + ')};`).join('\n  ')}
}`

  const finish = (r: number) => `\
workgroupBarrier();
if (lane == 0u) { maxima[group] = row_max${r}; sums_of_rows[group] = row_sum${r}; }
${V.map((i) => `merged[${i}u * LANES + local] = acc${r}_${i};`).join('\n')}
workgroupBarrier();
write_row(batch, list_head, first_row + ${r}u, workgroup.x, local);`

  const code = `\
// Attention of few query rows over many keys, first pass: each workgroup attends over a span of the keys, and a
// second one merges the results. Flash-Decoding (Dao et al. 2023); ${causal ? 'causal (bottom-right)' : 'not causal'}, ${dtype} storage, f32 math.
//
// Axes: B batch, Hq and Hkv query and KV heads, Lq and Lk lengths, D = ${headDim}, P splits.
// q [B, Hq, Lq, D], k and v [B, Hkv, Lk, D] ${dtype}, strided; part_out f32 [P, B, Hq, Lq, D], part_statistics f32
// [P, B, Hq, Lq, 2]: a row's largest score in base 2, and the sum of its weights below that.
// counts and indices: the lists of a stripe plan with one block of queries.
//
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

const LANES = ${LANES}u;
const LANES_PER_KEY = ${lanesPerKey}u;
const GROUPS = ${groups}u;
const KEYS = ${keysPerStep}u; // of a group, at a time
const ROWS = ${rows}u;
const UNITS = ${headDim / perUnit}u; // 16-byte units of a row
const PRODUCTS = ${products}u;

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
    ${V.map((i) => {
      const unit = `(local + ${Math.floor(i / vec4PerUnit) * lanesPerKey}u)`
      return `if (${unit} < UNITS) {
      var total = vec4<f32>();
      for (var i = 0u; i < GROUPS; i++) { total += merged[${i}u * LANES + i * LANES_PER_KEY + local] * exp2(max(maxima[i] - largest, -1000.0)); }
      part_out[(at * UNITS + ${unit}) * ${vec4PerUnit}u + ${i % vec4PerUnit}u] = total * select(1.0 / sum, 0.0, empty);
    }`
    }).join('\n    ')}
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
  var first = u.key_length;
  var positions = u.key_length;
  if (u.dense == 0u) {
    first = u.width_0 * min(counts[list_row], u.capacity_0);
    positions = first;
    if (u.lists > 1u) { positions += u.width_1 * min(counts[u.batch * u.list_heads + list_row], u.capacity_1); }
  }
  let start = min(workgroup.x * u.span, positions);
  let end = min(start + u.span, positions);

  ${R.map(
    (r) => `\
${V.map((i) => `var q${r}_${i} = vec4<f32>();`).join(' ')}
  var row_end${r} = 0u; // keys before it are visible
  if (first_row + ${r}u < u.heads_per_list * u.query_length) {
    let head = list_head * u.heads_per_list + (first_row + ${r}u) / u.query_length;
    let row = (first_row + ${r}u) % u.query_length;
    row_end${r} = ${causal ? 'u32(clamp(i32(row) + u.query_offset + 1, 0, i32(u.key_length)))' : 'u.key_length'};
    let at = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row * u.q_row_stride + lane;
    ${range(unitsPerLane)
      .map((n) => {
        const targets = range(vec4PerUnit).map((i) => `q${r}_${n * vec4PerUnit + i}`)
        return `if (lane + ${n * lanesPerKey}u < UNITS) {
      let unit = q[at + ${n * lanesPerKey}u];
      ${indent(unpackUnit(dtype, 'unit', targets), 6)}
      ${targets.map((target) => `${target} *= u.scale;`).join(' ')}
    }`
      })
      .join('\n    ')}
  }
  ${V.map((i) => `var acc${r}_${i} = vec4<f32>();`).join(' ')}
  var row_max${r} = ${LOWEST};
  var row_sum${r} = 0.0;`,
  ).join('\n  ')}

  for (var step = start; step < end; step += GROUPS * KEYS) {
    ${K.map((key) => `let position${key} = step + group * KEYS + ${key}u;`).join('\n    ')}
    ${K.map((key) => `var key${key} = 0u;\n    if (position${key} < end) { key${key} = key_at(position${key}, first, list_row); }`).join('\n    ')}
    ${K.map((key) => `let inside${key} = position${key} < end && key${key} < u.key_length;`).join('\n    ')}
    ${K.map((key) => indent(load('k', key, 'k'), 4)).join('\n    ')}
    ${K.map((key) => R.map((r) => `var s${key}_${r} = ${V.map((i) => `dot(q${r}_${i}, k${key}_${i})`).join(' + ')};`).join('\n    ')).join('\n    ')}
    ${indent(addUp, 4)}
    ${K.map((key) => indent(load('v', key, 'v'), 4)).join('\n    ')}
    ${R.map((r) => indent(update(r), 4)).join('\n    ')}
  }
  ${R.map((r) => indent(finish(r), 2)).join('\n  ')}
}
`
  return {
    label: 'split-attention',
    code: shuffles ? `enable subgroups;\n${code}` : code,
    bindings: ['uniform', 'read', 'read', 'read', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: LANES,
    workgroupBytes: 16 * vectors * LANES + 8 * groups + (shuffles ? 0 : 4 * products * (LANES + groups)),
  }
}
