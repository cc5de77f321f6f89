import type { DType, KernelSource } from '@sparse-attention/core'
import { attentionCallUniforms } from '../shared/attention-call.js'
import { stripeListUniforms } from '../shared/stripe-lists.js'
import { uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, LOWEST, range, unitType } from '../shared/wgsl.js'
import { type Index, looped, unrolled } from './form.js'
import { MIN_SPAN, splitTiling } from './tiling.js'
import { canSpread, eachLaneWeights, spreadWeights } from './weights.js'

export interface SplitAttentionOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  readonly causal: boolean
  /** Lanes that every subgroup has: products are then added by shuffles, else through workgroup memory. */
  readonly subgroupSize?: number
  /** Keys of a page, where keys and values lie in pages of a pool: a power of two. */
  readonly pageSize?: number
  /** Query rows of a workgroup, at most `maxRows` of the tiling. */
  readonly rows: number
  /** true: query_length is 1, so that all rows see the same keys. */
  readonly singleQuery: boolean
  /** Whether code is repeated for each row and key, which is fast on GPUs and slow to compile for software adapters. */
  readonly unroll: boolean
}

export const splitAttentionUniforms = {
  ...attentionCallUniforms,
  /** Query heads that share a list, and chunks of rows that they make. */
  heads_per_list: 'u32',
  row_chunks: 'u32',
  batch: 'u32',
  list_heads: 'u32',
  ...stripeListUniforms,
  /** Page ids that there is room for in a row of the page table; 0 without one. */
  table_width: 'u32',
} as const

/**
 * Attention of few queries over many keys, the first of two passes ("split-K", Flash-Decoding): each workgroup takes a span
 * of the keys and all query heads that share them, so that keys and values are read once.
 */
export function emitSplitAttention(options: SplitAttentionOptions): KernelSource {
  const { dtype, headDim, causal, subgroupSize, pageSize, rows, singleQuery } = options
  const { lanes, lanesPerKey, unitsPerLane, keysPerStep } = splitTiling(dtype, headDim, subgroupSize)
  // A single row leaves registers for more keys.
  const keys = rows === 1 ? 2 * keysPerStep : keysPerStep
  const form = options.unroll ? unrolled : looped
  const { each, cells } = form
  const groups = lanes / lanesPerKey
  const units = headDim / elementsPerUnit(dtype)
  const vec4PerUnit = elementsPerUnit(dtype) / 4
  const unitsOfLane = range(unitsPerLane)
  const vectors = range(unitsPerLane * vec4PerUnit)
  // Lanes whose results are added by shuffles before they meet in workgroup memory.
  const lanesPerShare = subgroupSize === undefined ? lanesPerKey : Math.min(subgroupSize, lanes)
  const shares = lanes / lanesPerShare
  const paged = pageSize !== undefined

  const query = cells('query', 'vec4<f32>', [rows, vectors.length])
  const acc = cells('acc', 'vec4<f32>', [rows, vectors.length])
  const rowEnd = cells('row_end', 'u32', [rows])
  const key = cells('key', 'u32', [keys])
  const keyRow = cells('key_row', 'u32', [keys])
  const inside = cells('inside', 'bool', [keys])
  const kUnit = cells('k_unit', unitType(dtype), [keys, unitsPerLane])
  const vUnit = cells('v_unit', unitType(dtype), [keys, unitsPerLane])
  const score = cells('score', 'f32', [keys, rows])

  const literal = (index: Index) => (typeof index === 'number' ? `${index}u` : index)
  const visible = (j: Index, r: Index) => (singleQuery ? inside.at(j) : `${key.at(j)} < ${rowEnd.at(r)}`)
  const products = { form, rows, keys, lanesPerKey, vectors: vectors.length, score, acc }
  const spread = options.unroll && subgroupSize !== undefined && canSpread(rows, keys, lanesPerKey)
  const weights = spread
    ? spreadWeights({
        ...products,
        key,
        ownEnd: singleQuery ? 'key_length' : 'visible_end(first_row + lane % ROWS, key_length)',
      })
    : eachLaneWeights({ ...products, shuffles: subgroupSize !== undefined, visible })
  const { rowMax, rowSum } = weights
  const lines = (code: readonly string[]) => code.join('\n')
  const unitOf = (n: number) => (n === 0 ? 'lane' : `lane + ${n * lanesPerKey}u`)
  /** Lanes behind the last unit of a row, where head_dim leaves some, read it once more. */
  const ragged = units % lanesPerKey !== 0
  const loaded = (n: number) => (ragged ? `min(${unitOf(n)}, UNITS - 1u)` : unitOf(n))
  /** vec4<f32> number i of a lane, from its units. */
  const unpack = (name: string, unit: (n: number) => string) =>
    lines(
      vectors.map((i) => {
        const from = unit(Math.floor(i / vec4PerUnit))
        const [a, b] = i % vec4PerUnit === 0 ? ['x', 'y'] : ['z', 'w']
        const value = dtype === 'f32' ? from : `vec4<f32>(unpack2x16float(${from}.${a}), unpack2x16float(${from}.${b}))`
        return `let ${name}${i} = ${value};`
      }),
    )

  const loadQueries = each(
    'r',
    rows,
    (r) => `\
if (first_row + ${literal(r)} < all_rows) {
  let row = first_row + ${literal(r)};
  let head = list_head * u.heads_per_list + row / u.query_length;
  let at = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row % u.query_length * u.q_row_stride;
  ${singleQuery ? '' : `${rowEnd.at(r)} = visible_end(row, key_length);`}
  ${indent(
    lines([
      ...unitsOfLane.map((n) => `let unit${n} = q[at + ${loaded(n)}];`),
      unpack('part', (n) => `unit${n}`),
      ...vectors.map((i) => `${query.at(r, i)} = u.scale * part${i};`),
    ]),
    2,
  )}
}`,
  )

  const findKeys = each(
    'j',
    keys,
    (j) => `\
{
  let position = step + group * KEYS + ${literal(j)};
  var found = 0u;
  if (position < end) { found = key_at(position, first, list_row); }
  ${inside.at(j)} = position < end && found < key_length;
  ${key.at(j)} = select(NO_KEY, found, ${inside.at(j)});
  ${keyRow.at(j)} = ${paged ? `row_of(select(0u, found, ${inside.at(j)}), batch)` : `select(0u, found, ${inside.at(j)})`};
}`,
  )

  const load = each('j', keys, (j) =>
    lines(
      (['k', 'v'] as const).flatMap((tensor) =>
        unitsOfLane.map((n) => {
          const from = `${tensor}[${tensor}_head + ${keyRow.at(j)} * u.${tensor}_row_stride + ${loaded(n)}]`
          if (tensor === 'v') {
            // What is not there may be NaN, and a weight of 0 would not hide it.
            return `${vUnit.at(j, n)} = select(${unitType(dtype)}(), ${from}, ${inside.at(j)});`
          }
          return `${kUnit.at(j, n)} = ${ragged ? `select(${unitType(dtype)}(), ${from}, ${unitOf(n)} < UNITS)` : from};`
        }),
      ),
    ),
  )

  const multiply = each(
    'j',
    keys,
    (j) => `\
{
  ${indent(
    unpack('k', (n) => kUnit.at(j, n)),
    2,
  )}
  ${indent(
    each('r', rows, (r) => `${score.at(j, r)} = ${vectors.map((i) => `dot(${query.at(r, i)}, k${i})`).join(' + ')};`),
    2,
  )}
}`,
  )

  const accumulate = each(
    'j',
    keys,
    (j) => `\
{
  ${indent(
    unpack('v', (n) => vUnit.at(j, n)),
    2,
  )}
  ${indent(
    each('r', rows, (r) => {
      const sums = vectors.map((i) => `${acc.at(r, i)} += ${score.at(j, r)} * v${i};`).join(' ')
      // A key that this row does not see adds nothing, also where its value is NaN.
      return singleQuery ? sums : `if (${visible(j, r)}) { ${sums} }`
    }),
    2,
  )}
}`,
  )

  const apart = range(Math.log2(lanesPerShare / lanesPerKey)).map((bit) => lanesPerKey << bit)
  const shareOf = (name: string) => apart.map((mask) => `${name} += subgroupShuffleXor(${name}, ${mask}u);`)
  const addGroups = (r: Index) =>
    apart.length === 0
      ? ''
      : `\
var top = ${rowMax.at(r)};
  ${apart.map((mask) => `top = max(top, subgroupShuffleXor(top, ${mask}u));`).join(' ')}
  let rescale = exp2(max(${rowMax.at(r)} - top, -1000.0));
  ${rowMax.at(r)} = top;
  ${rowSum.at(r)} *= rescale;
  ${vectors.map((i) => `${acc.at(r, i)} *= rescale;`).join(' ')}
  ${indent(lines([...shareOf(rowSum.at(r)), ...vectors.flatMap((i) => shareOf(acc.at(r, i)))]), 2)}`

  const write = each(
    'r',
    rows,
    (r) => `\
{
  ${addGroups(r)}
  workgroupBarrier();
  if (local % LANES_PER_SHARE < LANES_PER_KEY) {
    let share = local / LANES_PER_SHARE;
    if (lane == 0u) { statistics[share] = vec2<f32>(${rowMax.at(r)}, ${rowSum.at(r)}); }
    ${indent(
      lines(
        unitsOfLane.map((n) => {
          const stores = range(vec4PerUnit).map(
            (i) =>
              `merged[share * VECTORS + (${unitOf(n)}) * ${vec4PerUnit}u + ${i}u] = ${acc.at(r, n * vec4PerUnit + i)};`,
          )
          return ragged ? `if (${unitOf(n)} < UNITS) { ${stores.join(' ')} }` : stores.join(' ')
        }),
      ),
      4,
    )}
  }
  workgroupBarrier();
  write_row(split, batch, list_head, first_row + ${literal(r)}, local);
}`,
  )

  const code = `\
// Attention of few query rows over many keys, first pass: each workgroup attends over a span of the keys, and a
// second one merges the results. Flash-Decoding (Dao et al. 2023); ${causal ? 'causal (bottom-right)' : 'not causal'}, ${dtype} storage, f32 math.
//
// Axes: B batch, Hq and Hkv query and KV heads, Lq${singleQuery ? ' = 1' : ''} and Lk lengths, D = ${headDim}, P splits.
// q [B, Hq, Lq, D], k and v [B, Hkv, Lk, D] ${dtype}, strided; part_out f32 [P, B, Hq, Lq, D], part_statistics f32
// [P, B, Hq, Lq, 2]: a row's largest score in base 2, and the sum of its weights below that, 0 in a part without a key:
// the output of such a part is not written.
// counts and indices: the lists of a stripe plan with one block of queries.
${
  paged
    ? `// k and v are pools [1, Hkv, pages · ${pageSize}, D]. pages u32[B, 1 + width]: the number of keys of a sequence, then its pages.\n`
    : ''
}//
// Workgroup (split, list head, batch · row chunk): ${groups} groups of ${lanesPerKey} lanes. A group takes ${keys} keys at a time, a lane ${unitsPerLane} of
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
${paged ? '@group(0) @binding(8) var<storage, read> pages: array<u32>;\n' : ''}
const LANES = ${lanes}u;
const LANES_PER_KEY = ${lanesPerKey}u;
const LANES_PER_SHARE = ${lanesPerShare}u; // of what meets in workgroup memory
const SHARES = ${shares}u;
const GROUPS = ${groups}u;
const KEYS = ${keys}u; // of a group, at a time
const ROWS = ${rows}u;
const UNITS = ${units}u; // 16-byte units of a row
const VECTORS = ${headDim / 4}u; // vec4 of a row
const MIN_SPAN = ${MIN_SPAN}u;
const NO_KEY = 0xffffffffu; // behind all that a row sees

${
  subgroupSize === undefined
    ? `var<workgroup> products: array<f32, KEYS * ROWS * LANES>;\nvar<workgroup> sums: array<f32, GROUPS * KEYS * ROWS>;\n`
    : ''
}var<workgroup> merged: array<vec4<f32>, SHARES * VECTORS>;
var<workgroup> statistics: array<vec2<f32>, SHARES>;

// The key at a position of the lists, one behind another.
fn key_at(position: u32, first: u32, list_row: u32) -> u32 {
  if (u.dense == 1u) { return position; }
  if (position < first) { return indices[list_row * u.capacity_0 + position / u.width_0] + position % u.width_0; }
  let rest = position - first;
  let list = u.batch * u.list_heads * u.capacity_0 + list_row * u.capacity_1;
  return indices[list + rest / u.width_1] + rest % u.width_1;
}
${
  paged
    ? `
// Where a key of a sequence lies in the pools.
fn row_of(key: u32, batch: u32) -> u32 {
  return pages[batch * (u.table_width + 1u) + 1u + key / ${pageSize}u] * ${pageSize}u + key % ${pageSize}u;
}
`
    : ''
}
${
  singleQuery
    ? ''
    : `\
// Keys before it are visible to a row of a list head.
fn visible_end(row: u32, key_length: u32) -> u32 {
  ${causal ? 'return u32(clamp(i32(row % u.query_length + 1u + key_length) - i32(u.query_length), 0, i32(key_length)));' : 'return key_length;'}
}

`
}// Where a row of a list head is written.
fn part_row(split: u32, batch: u32, list_head: u32, row: u32) -> u32 {
  let head = list_head * u.heads_per_list + row / u.query_length;
  return ((split * u.batch + batch) * u.query_heads + head) * u.query_length + row % u.query_length;
}

// The sum of what the workgroup has of one row.
fn write_row(split: u32, batch: u32, list_head: u32, row: u32, local: u32) {
  if (row >= u.heads_per_list * u.query_length) { return; }
  var largest = ${LOWEST};
  for (var i = 0u; i < SHARES; i++) { largest = max(largest, statistics[i].x); }
  var sum = 0.0;
  for (var i = 0u; i < SHARES; i++) { sum += exp2(max(statistics[i].x - largest, -1000.0)) * statistics[i].y; }
  let inverse = select(1.0 / sum, 0.0, sum == 0.0);
  let at = part_row(split, batch, list_head, row);
  for (var vector = local; vector < VECTORS; vector += LANES) {
    var total = vec4<f32>();
    for (var i = 0u; i < SHARES; i++) {
      total += exp2(max(statistics[i].x - largest, -1000.0)) * merged[i * VECTORS + vector];
    }
    part_out[at * VECTORS + vector] = total * inverse;
  }
  if (local == 0u) { part_statistics[at] = vec2<f32>(largest, sum); }
}

@compute @workgroup_size(${lanes})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,${spread ? '\n  @builtin(subgroup_invocation_id) subgroup_lane: u32,' : ''}
) {
  let split = workgroup.x;
  let list_head = workgroup.y;
  let batch = workgroup.z / u.row_chunks;
  let first_row = workgroup.z % u.row_chunks * ROWS;
  let all_rows = u.heads_per_list * u.query_length;
  let list_row = batch * u.list_heads + list_head;
  let key_length = ${paged ? 'min(pages[batch * (u.table_width + 1u)], u.key_length)' : 'u.key_length'};
  var first = key_length;
  var positions = key_length;
  if (u.dense == 0u) {
    first = u.width_0 * min(counts[list_row], u.capacity_0);
    positions = first;
    if (u.lists > 1u) { positions += u.width_1 * min(counts[u.batch * u.list_heads + list_row], u.capacity_1); }
  }
  // Splits share out what a list holds, not what it has room for.
  let span = max(MIN_SPAN, (positions + workgroups.x - 1u) / workgroups.x);
  let start = min(split * span, positions);
  let end = min(start + span, positions);
  if (start == end) {
    let row = first_row + local;
    if (local < ROWS && row < all_rows) {
      part_statistics[part_row(split, batch, list_head, row)] = vec2<f32>(${LOWEST}, 0.0);
    }
    return;
  }

  let lane = local % LANES_PER_KEY;
  let group = local / LANES_PER_KEY;
  let kv_head = list_head * u.heads_per_list / u.group_size;
  let k_head = u.k_offset + batch * u.k_batch_stride + kv_head * u.k_head_stride;
  let v_head = u.v_offset + batch * u.v_batch_stride + kv_head * u.v_head_stride;
  ${indent(lines([...[query, acc, ...(singleQuery ? [] : [rowEnd])].map((array) => array.declaration), weights.declarations]), 2)}
  ${indent(loadQueries, 2)}

  for (var step = start; step < end; step += GROUPS * KEYS) {
    ${indent(lines([key, keyRow, inside, kUnit, vUnit, score].map((array) => array.declaration)), 4)}
    ${indent(lines([findKeys, load, multiply, weights.fromProducts, accumulate]), 4)}
  }
  ${indent(lines([weights.finish, write]), 2)}
}
`
  return {
    label: 'split-attention',
    code: subgroupSize === undefined ? code : `enable subgroups;\n${code}`,
    bindings: [
      'uniform',
      'read',
      'read',
      'read',
      'read',
      'read',
      'read_write',
      'read_write',
      ...(paged ? (['read'] as const) : []),
    ],
    workgroupSize: lanes,
    workgroupBytes: shares * (headDim * 4 + 8) + (subgroupSize === undefined ? 4 * keys * rows * (lanes + groups) : 0),
  }
}
