import type { DType, KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { pageTableFunctions, pageTableUniforms } from '../shared/pages.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { indent, range, unitType, unpackUnit } from '../shared/wgsl.js'
import type { KeyBits } from './layout.js'

export interface QuantizeKeysOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  readonly bits: KeyBits
  /** The cache is in pages. */
  readonly paged?: boolean
}

export const quantizeKeysUniforms = {
  ...gridUniforms,
  ...pageTableUniforms,
  ...addressFields('k'),
  kv_heads: 'u32',
  /** Tokens of k, the place of the first of them in the cache (in pages: its sequence), and tokens that the cache has room for. */
  rows: 'u32',
  first_token: 'u32',
  capacity: 'u32',
} as const

const INVOCATIONS = 64

/** Tokens that a workgroup packs: an invocation takes 8 elements. */
export function tokensPerWorkgroup(headDim: number): number {
  return Math.floor(INVOCATIONS / (headDim / 8))
}

/** Packs keys into 4 or 8 bits an element. */
export function emitQuantizeKeys({ dtype, headDim, bits, paged = false }: QuantizeKeysOptions): KernelSource {
  const levels = 2 ** bits - 1
  const units = dtype === 'f16' ? 1 : 2 // of 16 bytes in 8 elements
  const weights = (first: number) =>
    range(4)
      .map((i) => `${2 ** (bits * i + first)}u`)
      .join(', ')
  const code = `\
// Asymmetric quantisation of keys, a scale and a zero for each token and KV head: zero = min, scale = (max − min) / ${levels},
// n = round((k − zero) / scale). The pair is rounded to f16 first, so that zero + scale · n is what n was chosen for.
// A scale is at least 2^-14, the smallest normal half: equal keys become n = 0.
//
// Axes: k [B, Hkv, rows, D] ${dtype}, strided; packed u32 [${paged ? 'Hkv, pages, u.page_size' : 'B·Hkv, capacity'}, ${(headDim * bits) / 32}], the first element in the lowest bits;
// scales u32 [${
    paged
      ? 'Hkv, pages, u.page_size], scale and zero as two halves. Tokens of k are the last of their sequences, from sequence first_token on.'
      : 'B·Hkv, capacity], scale and zero as two halves. Token i of k is token first_token + i of the cache.'
  }
//
// One workgroup of ${INVOCATIONS} for ROWS tokens: 8 elements an invocation.
${uniformStruct('Uniforms', quantizeKeysUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> k: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read_write> packed: array<u32>;
@group(0) @binding(3) var<storage, read_write> scales: array<u32>;
${paged ? '@group(0) @binding(4) var<storage, read> table: array<u32>;\n' : ''}
const LANES = ${headDim / 8}u; // invocations of a token
const ROWS = ${tokensPerWorkgroup(headDim)}u;
const MOST = vec4<f32>(65504.0); // the largest half

var<workgroup> partial: array<vec2<f32>, ${INVOCATIONS}>; // minima and maxima

${workgroupNumberFunction}

// To the nearest half, ties to even, of what is no smaller than the least normal one. In integers: packing may round either way, and a
// compiler may take what is unpacked for what was packed, as an H100's does.
fn to_half(value: f32) -> f32 {
  let bits = bitcast<u32>(value);
  return bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
}
${paged ? `\n${pageTableFunctions}\n` : ''}
@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let tiles = (u.rows + ROWS - 1u) / ROWS;
  let segment = number / tiles;
  let row = number % tiles * ROWS + local / LANES;
  let lane = local % LANES;
  let busy = local < ROWS * LANES && row < u.rows;
  var value0 = vec4<f32>();
  var value1 = vec4<f32>();
  if (busy) {
    let at = u.k_offset + segment / u.kv_heads * u.k_batch_stride + segment % u.kv_heads * u.k_head_stride
      + row * u.k_row_stride + lane * ${units}u;
    ${
      dtype === 'f16'
        ? `let unit = k[at];\n    ${indent(unpackUnit(dtype, 'unit', ['value0', 'value1']), 4)}`
        : 'value0 = k[at];\n    value1 = k[at + 1u];'
    }
    value0 = clamp(value0, -MOST, MOST);
    value1 = clamp(value1, -MOST, MOST);
  }
  let low4 = min(value0, value1);
  let high4 = max(value0, value1);
  let low2 = min(low4.xy, low4.zw);
  let high2 = max(high4.xy, high4.zw);
  partial[local] = vec2<f32>(min(low2.x, low2.y), max(high2.x, high2.y));
  workgroupBarrier();
  if (!busy) { return; }

  var extremes = partial[local - lane];
  for (var i = 1u; i < LANES; i++) {
    let other = partial[local - lane + i];
    extremes = vec2<f32>(min(extremes.x, other.x), max(extremes.y, other.y));
  }
  let scale = to_half(max((extremes.y - extremes.x) / ${levels}.0, 0x1p-14));
  let zero = to_half(extremes.x);
  let n0 = vec4<u32>(clamp(round((value0 - zero) / scale), vec4<f32>(), vec4<f32>(${levels}.0)));
  let n1 = vec4<u32>(clamp(round((value1 - zero) / scale), vec4<f32>(), vec4<f32>(${levels}.0)));
  ${
    paged
      ? `let sequence = u.first_token + segment / u.kv_heads; // the first sequence, where tokens have places in pages
  let place = key_count(sequence) - u.rows + row;
  let token = (segment % u.kv_heads * u.pool_pages + page_of(sequence, place / u.page_size)) * u.page_size + place % u.page_size;`
      : 'let token = segment * u.capacity + u.first_token + row;'
  }
  ${
    bits === 4
      ? `packed[token * LANES + lane] = dot(n0, vec4<u32>(${weights(0)})) + dot(n1, vec4<u32>(${weights(16)}));`
      : `packed[(token * LANES + lane) * 2u] = dot(n0, vec4<u32>(${weights(0)}));
  packed[(token * LANES + lane) * 2u + 1u] = dot(n1, vec4<u32>(${weights(0)}));`
  }
  if (lane == 0u) { scales[token] = pack2x16float(vec2<f32>(scale, zero)); }
}
`
  return {
    label: `quantize-keys-${bits}-bit${paged ? '-pages' : ''}`,
    code,
    bindings: ['uniform', 'read', 'read_write', 'read_write', ...(paged ? (['read'] as const) : [])],
    workgroupSize: INVOCATIONS,
    workgroupBytes: INVOCATIONS * 8,
  }
}
