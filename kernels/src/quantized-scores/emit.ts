import type { DType, KernelSource } from '@sparse-attention/core'
import type { KeyBits } from '../quantize-keys/layout.js'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, range, unitType, unpackUnit } from '../shared/wgsl.js'
import { exactProducts, packedProducts } from './products.js'

export interface QuantizedScoresOptions {
  /** Of the queries. */
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  readonly bits: KeyBits
  /** Query rows that share one read of the keys: 1, 2, 4 or 8. */
  readonly rows: number
  /** 'exact': products in f32. 'int8': queries in 8 bits too, and products of packed integers. */
  readonly queries: 'exact' | 'int8'
  /** The device's WGSL has the built-in `dot4I8Packed`. */
  readonly packedDot?: boolean
}

export const quantizedScoresUniforms = {
  ...gridUniforms,
  ...addressFields('q'),
  query_length: 'u32',
  kv_heads: 'u32',
  group_size: 'u32',
  key_length: 'u32',
  capacity: 'u32',
  scale: 'f32',
} as const

/** Tokens of one workgroup, one an invocation. */
export const SCORED_TOKENS = 64

/** Products of queries with packed keys. */
export function emitQuantizedScores(options: QuantizedScoresOptions): KernelSource {
  const { dtype, headDim, bits, rows, queries } = options
  const products = queries === 'int8' ? packedProducts(options) : exactProducts(options)
  const perWord = 32 / bits
  const words = headDim / perWord
  const width = words % 4 === 0 ? 4 : words % 2 === 0 ? 2 : 1 // words loaded at once
  const type = width === 1 ? 'u32' : `vec${width}<u32>`
  const units = headDim / elementsPerUnit(dtype)
  const vectors = elementsPerUnit(dtype) / 4
  const each = range(rows)
  const targets = range(vectors).map((i) => `queries[index * ${vectors}u + ${i}u]`)
  const multiply = (word: number) => products.multiply(width === 1 ? 'loaded' : `loaded[${word}]`, word)
  const code = `\
// scores[b, h, i, j] = scale · q[b, h, i] · k̂[b, h / group_size, j], with k̂ the packed keys: where Twilight (arXiv 2502.02770,
// §4) looks for what to keep. q · (zero + step · n) is taken as step · (q · n) + zero · Σ q.
//
// Axes: q [B, Hq, Lq, D] ${dtype}, strided; packed u32 [B·Hkv, capacity, ${words}]; scales u32 [B·Hkv, capacity], step and zero as two
// halves; scores f32 [B, Hq, Lq, key_length].
//
// One workgroup of ${SCORED_TOKENS} for ${SCORED_TOKENS} tokens of a KV head and ${rows} of the group_size · Lq rows that look at them.
${uniformStruct('Uniforms', quantizedScoresUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read> packed: array<${type}>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;

const VECTORS = ${headDim / 4}u; // vec4 of a row
const LOADS = ${words / width}u; // of a token

var<workgroup> queries: array<vec4<f32>, ${(rows * headDim) / 4}>;
var<workgroup> query_sums: array<f32, ${rows}>;
${products.declarations}

${workgroupNumberFunction}

@compute @workgroup_size(${SCORED_TOKENS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let all_rows = u.group_size * u.query_length;
  let row_blocks = (all_rows + ${rows - 1}u) / ${rows}u;
  let tiles = (u.key_length + ${SCORED_TOKENS - 1}u) / ${SCORED_TOKENS}u;
  let tile = number % tiles;
  let first_row = number / tiles % row_blocks * ${rows}u;
  let segment = number / tiles / row_blocks;
  let first_head = segment % u.kv_heads * u.group_size;
  let batch = segment / u.kv_heads;

  for (var index = local; index < ${rows * units}u; index += ${SCORED_TOKENS}u) {
    let row = first_row + index / ${units}u;
    ${targets.map((target) => `${target} = vec4<f32>();`).join(' ')}
    if (row < all_rows) {
      let unit = q[u.q_offset + batch * u.q_batch_stride + (first_head + row / u.query_length) * u.q_head_stride
        + row % u.query_length * u.q_row_stride + index % ${units}u];
      ${indent(unpackUnit(dtype, 'unit', targets), 6)}
    }
  }
  workgroupBarrier();
  if (local < ${rows}u) {
    var sum = 0.0;
    for (var i = 0u; i < VECTORS; i++) { sum += dot(queries[local * VECTORS + i], vec4<f32>(1.0)); }
    query_sums[local] = sum;
  }
  ${indent(products.prepare, 2)}
  workgroupBarrier();

  let token = tile * ${SCORED_TOKENS}u + local;
  if (token >= u.key_length) { return; }
  ${each.map((r) => `var sum${r}: ${products.type};`).join(' ')}
  let first_load = (segment * u.capacity + token) * LOADS;
  for (var load = 0u; load < LOADS; load++) {
    let loaded = packed[first_load + load];
    let vector = load * ${(width * perWord) / 4}u;
    ${indent(range(width).map(multiply).join('\n'), 4)}
  }
  let pair = unpack2x16float(scales[segment * u.capacity + token]);
  ${each
    .map(
      (r) => `if (first_row + ${r}u < all_rows) {
    let out_row = (batch * u.kv_heads * u.group_size + first_head) * u.query_length + first_row + ${r}u;
    scores[out_row * u.key_length + token] = u.scale * (pair.x * ${products.total(r)} + pair.y * query_sums[${r}u]);
  }`,
    )
    .join('\n  ')}
}
`
  return {
    label: `quantized-scores-${bits}-bit${queries === 'int8' ? '-int8' : ''}`,
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read_write'],
    workgroupSize: SCORED_TOKENS,
    workgroupBytes: rows * headDim * 4 + rows * 4 + products.bytes,
  }
}
