import type { DType, KernelSource } from '@sparse-attention/core'
import type { KeyBits } from '../quantize-keys/layout.js'
import { exactProducts } from '../quantized-scores/products.js'
import { pageTableFunctions, pageTableUniforms } from '../shared/pages.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, LOWEST, range, unitType, unpackUnit } from '../shared/wgsl.js'
import type { ListedKeys } from './listed-keys.js'

export interface ListedScoresOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  /** Query heads that share one read of the keys: 1, 2, 4 or 8. */
  readonly rows: number
  readonly keys: ListedKeys
}

export const listedScoresUniforms = {
  ...pageTableUniforms,
  ...addressFields('q'),
  ...addressFields('k'),
  kv_heads: 'u32',
  group_size: 'u32',
  capacity: 'u32',
  scale: 'f32',
} as const

/** Positions of one workgroup, one an invocation. */
export const SCORED_POSITIONS = 64

/** Products of one query of each head with the keys of listed pages. */
export function emitListedScores({ dtype, headDim, rows, keys }: ListedScoresOptions): KernelSource {
  const units = headDim / elementsPerUnit(dtype)
  const vectors = elementsPerUnit(dtype) / 4
  const each = range(rows)
  const targets = range(vectors).map((i) => `queries[index * ${vectors}u + ${i}u]`)
  const packed = typeof keys === 'number'
  const products = packed ? packedKeys(headDim, rows, keys, dtype) : plainKeys(dtype, headDim, rows, keys)
  const code = `\
// scores[b, h, i] = scale · q[b, h] · ${packed ? 'k̂' : 'k'} of the i-th token of the pages that a list holds, those of a KV head for its query heads:
// where Twilight (arXiv 2502.02770, §4) looks for what to keep.${
    packed ? ' q · (zero + step · n) is taken as step · (q · n) + zero · Σ q.' : ''
  }
//
// Axes: q [B, Hq, 1, D] ${dtype}, strided; ${products.axes}
// counts i32[B, Hkv] and indices i32[B, Hkv, capacity]: first tokens of pages; scores f32 [B, Hq, capacity · page_size]. A token past the
// end of its sequence has the lowest number; what lies past the list is not written.
//
// One workgroup of ${SCORED_POSITIONS} for ${SCORED_POSITIONS} tokens of a KV head (tile, KV head · chunk of ${rows} query heads, sequence).
${uniformStruct('Uniforms', listedScoresUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> counts: array<u32>;
@group(0) @binding(3) var<storage, read> indices: array<u32>;
@group(0) @binding(4) var<storage, read> q: array<${unitType(dtype)}>;
@group(0) @binding(5) var<storage, read_write> scores: array<f32>;
${products.bindings}

const VECTORS = ${headDim / 4}u; // vec4 of a row
const LOADS = ${products.loads}u; // of a token

var<workgroup> queries: array<vec4<f32>, ${(rows * headDim) / 4}>;
${packed ? `var<workgroup> query_sums: array<f32, ${rows}>;\n` : ''}
${pageTableFunctions}

@compute @workgroup_size(${SCORED_POSITIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let sequence = workgroup.z;
  let kv_head = workgroup.y % u.kv_heads;
  let first_row = workgroup.y / u.kv_heads * ${rows}u;
  let list = sequence * u.kv_heads + kv_head;
  let listed = min(counts[list], u.capacity);
  let position = workgroup.x * ${SCORED_POSITIONS}u + local;
  if (workgroup.x * ${SCORED_POSITIONS}u >= listed * u.page_size) { return; }

  for (var index = local; index < ${rows * units}u; index += ${SCORED_POSITIONS}u) {
    let row = first_row + index / ${units}u;
    ${targets.map((target) => `${target} = vec4<f32>();`).join(' ')}
    if (row < u.group_size) {
      let unit = q[u.q_offset + sequence * u.q_batch_stride + (kv_head * u.group_size + row) * u.q_head_stride + index % ${units}u];
      ${indent(unpackUnit(dtype, 'unit', targets), 6)}
    }
  }
  workgroupBarrier();
  ${
    packed
      ? `if (local < ${rows}u) {
    var sum = 0.0;
    for (var i = 0u; i < VECTORS; i++) { sum += dot(queries[local * VECTORS + i], vec4<f32>(1.0)); }
    query_sums[local] = sum;
  }
  workgroupBarrier();
`
      : ''
  }
  if (position >= listed * u.page_size) { return; }
  let token = indices[list * u.capacity + position / u.page_size] + position % u.page_size;
  let inside = token < key_count(sequence);
  let place = (kv_head * u.pool_pages + page_of(sequence, min(token, key_count(sequence) - 1u) / u.page_size)) * u.page_size + token % u.page_size;
  ${each.map((r) => `var sum${r} = 0.0;`).join(' ')}
  ${indent(products.multiply, 2)}
  ${each
    .map(
      (r) => `if (first_row + ${r}u < u.group_size) {
    let head = list * u.group_size + first_row + ${r}u;
    scores[head * u.capacity * u.page_size + position] = select(${LOWEST}, u.scale * ${products.total(r)}, inside);
  }`,
    )
    .join('\n  ')}
}
`
  return {
    label: `listed-scores-${keys}`,
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read', 'read_write', 'read', ...(packed ? (['read'] as const) : [])],
    workgroupSize: SCORED_POSITIONS,
    workgroupBytes: rows * headDim * 4 + (packed ? rows * 4 : 0),
  }
}

interface KeyProducts {
  readonly axes: string
  readonly bindings: string
  readonly loads: number
  /** Statements that add q · k to `sum0` … for the token at `place`, or for `token`. */
  readonly multiply: string
  readonly total: (row: number) => string
}

function packedKeys(headDim: number, rows: number, bits: KeyBits, dtype: DType): KeyProducts {
  const products = exactProducts({ dtype, headDim, bits, rows, queries: 'exact' })
  const perWord = 32 / bits
  const words = headDim / perWord
  const width = words % 4 === 0 ? 4 : words % 2 === 0 ? 2 : 1 // words loaded at once
  const multiply = range(width).map((word) => products.multiply(width === 1 ? 'loaded' : `loaded[${word}]`, word))
  return {
    axes: `packed u32 [Hkv, pages, u.page_size, ${words}]; scales u32 [Hkv, pages, u.page_size], step and zero as two halves;`,
    bindings: `\
@group(0) @binding(6) var<storage, read> packed: array<${width === 1 ? 'u32' : `vec${width}<u32>`}>;
@group(0) @binding(7) var<storage, read> scales: array<u32>;`,
    loads: words / width,
    multiply: `\
for (var load = 0u; load < LOADS; load++) {
  let loaded = packed[place * LOADS + load];
  let vector = load * ${(width * perWord) / 4}u;
  ${indent(multiply.join('\n'), 2)}
}
let pair = unpack2x16float(scales[place]);`,
    total: (row) => `(pair.x * ${products.total(row)} + pair.y * query_sums[${row}u])`,
  }
}

function plainKeys(dtype: DType, headDim: number, rows: number, keys: 'pages' | 'tensor'): KeyProducts {
  const vectors = elementsPerUnit(dtype) / 4
  const names = range(vectors).map((i) => `key${i}`)
  const at =
    keys === 'pages'
      ? 'place * LOADS'
      : `u.k_offset + sequence * u.k_batch_stride + kv_head * u.k_head_stride + min(token, key_count(sequence) - 1u) * u.k_row_stride`
  return {
    axes: keys === 'pages' ? `k ${dtype} [Hkv, pages, u.page_size, D];` : `k ${dtype} [B, Hkv, Lk, D], strided;`,
    bindings: `@group(0) @binding(6) var<storage, read> k: array<${unitType(dtype)}>;`,
    loads: headDim / elementsPerUnit(dtype),
    multiply: `\
let first = ${at};
for (var load = 0u; load < LOADS; load++) {
  let loaded = k[first + load];
  ${names.map((name) => `var ${name}: vec4<f32>;`).join(' ')}
  ${indent(unpackUnit(dtype, 'loaded', names), 2)}
  ${range(rows)
    .flatMap((r) =>
      names.map((name, i) => `sum${r} += dot(${name}, queries[${r}u * VECTORS + load * ${vectors}u + ${i}u]);`),
    )
    .join('\n  ')}
}`,
    total: (row) => `sum${row}`,
  }
}
