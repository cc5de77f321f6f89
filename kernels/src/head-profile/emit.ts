import type { DType, KernelSource } from '@sparse-attention/core'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, LOWEST, range, unitType, unpackUnit } from '../shared/wgsl.js'

export interface HeadErrorsOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
}

/** What the kernels know of a video: tokens lie frame after frame, text behind them. */
export const videoUniforms = { frames: 'u32', frame_length: 'u32', key_length: 'u32' } as const

/** `temporal_position(token)`: where a token of the video is when those of one place in all frames lie together. */
const temporalPositionFunction = `\
fn temporal_position(token: u32) -> u32 {
  return token % u.frame_length * u.frames + token / u.frame_length;
}`

export const headErrorsUniforms = {
  ...addressFields('v'),
  ...videoUniforms,
  query_heads: 'u32',
  group_size: 'u32',
  rows: 'u32',
  first_head: 'u32',
  /** Tokens of a block of the masks, and how many blocks off the diagonal they reach, itself included. */
  block: 'u32',
  reach: 'u32',
} as const

const INVOCATIONS = 256

const kinds = ['full', 'spatial', 'temporal'] as const

/** By how much the output of sampled rows changes under a spatial mask and under a temporal one. */
export function emitHeadErrors({ dtype, headDim }: HeadErrorsOptions): KernelSource {
  const perUnit = elementsPerUnit(dtype)
  const units = headDim / perUnit
  const parts = Math.floor(INVOCATIONS / units)
  const vectors = range(perUnit / 4)
  const names = vectors.map((i) => `value${i}`)
  const forKinds = (line: (kind: (typeof kinds)[number], n: number) => string) => kinds.map(line).join('\n')
  const code = `\
// errors[h, r] = |o_spatial − o_full|², |o_temporal − o_full|² of sampled row r: outputs of softmax over all keys, over those of
// near frames, and over those of near places (Sparse VideoGen, arXiv 2502.01776, §4.1, Algorithm 1). A mask keeps blocks of so
// many tokens less than \`reach\` blocks off the diagonal, of tokens as they lie or of those of one place together, and all text.
//
// Axes: scores f32 [heads, rows, key_length] from first_head on; row_indices i32 [rows], of the video; v [B, Hkv, key_length, D]
// ${dtype}, strided; errors vec2<f32> [B·Hq, rows].
//
// One workgroup of ${INVOCATIONS} a row and head: weights of ${INVOCATIONS} keys, then PARTS keys at a time, 16 bytes of v an invocation, and at last the
// parts added in order.
${uniformStruct('Uniforms', headErrorsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read> row_indices: array<i32>;
@group(0) @binding(3) var<storage, read> v: array<${unitType(dtype)}>;
@group(0) @binding(4) var<storage, read_write> errors: array<vec2<f32>>;

const UNITS = ${units}u; // of 16 bytes in a row
const PARTS = ${parts}u;

var<workgroup> per_key: array<vec3<f32>, ${INVOCATIONS}>; // largest scores, then weights, under each mask
var<workgroup> partial: array<vec4<f32>, ${INVOCATIONS * vectors.length}>;
var<workgroup> weights: array<f32, ${INVOCATIONS}>;

${temporalPositionFunction}

fn apart(a: u32, b: u32) -> u32 {
  return max(a, b) / u.block - min(a, b) / u.block;
}

// Which masks keep a key: spatial, temporal.
fn kept_by(row: u32, key: u32) -> vec2<bool> {
  let text = key >= u.frames * u.frame_length;
  return vec2<bool>(
    text || apart(row, key) < u.reach,
    text || apart(temporal_position(row), temporal_position(key)) < u.reach,
  );
}

@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = u.first_head + workgroup.y;
  let row = u32(row_indices[workgroup.x]);
  let first = (workgroup.y * u.rows + workgroup.x) * u.key_length;
  let v_head = u.v_offset + head / u.query_heads * u.v_batch_stride + head % u.query_heads / u.group_size * u.v_head_stride;

  var top = vec3<f32>(${LOWEST});
  for (var key = local; key < u.key_length; key += ${INVOCATIONS}u) {
    let score = scores[first + key];
    let kept = kept_by(row, key);
    top = max(top, vec3<f32>(score, select(${LOWEST}, score, kept.x), select(${LOWEST}, score, kept.y)));
  }
  per_key[local] = top;
  workgroupBarrier();
  for (var i = 0u; i < min(${INVOCATIONS}u, u.key_length); i++) { top = max(top, per_key[i]); }

  let part = local / UNITS;
  let unit = local % UNITS;
  ${indent(
    forKinds((kind) => `var sum_${kind} = 0.0;\n${vectors.map((i) => `var ${kind}${i} = vec4<f32>();`).join(' ')}`),
    2,
  )}
  // What is told by a key alone is computed once for all of its values.
  for (var chunk = 0u; chunk < u.key_length; chunk += ${INVOCATIONS}u) {
    workgroupBarrier();
    let own = chunk + local;
    var weights_of_own = vec3<f32>();
    if (own < u.key_length) {
      let kept = kept_by(row, own);
      // The clamp keeps the difference of huge scores finite.
      let powers = exp(max(vec3<f32>(scores[first + own]) - top, vec3<f32>(-1000.0)));
      weights_of_own = powers * vec3<f32>(1.0, f32(kept.x), f32(kept.y));
    }
    per_key[local] = weights_of_own;
    workgroupBarrier();
    if (part < PARTS) {
      for (var i = part; i < min(${INVOCATIONS}u, u.key_length - chunk); i += PARTS) {
        let weight = per_key[i];
        let bits = v[v_head + (chunk + i) * u.v_row_stride + unit];
        ${names.map((name) => `var ${name}: vec4<f32>;`).join(' ')}
        ${indent(unpackUnit(dtype, 'bits', names), 8)}
        ${indent(
          forKinds((kind, n) => {
            const weight = `weight.${'xyz'[n]}`
            return `sum_${kind} += ${weight};\n${vectors.map((i) => `${kind}${i} += ${weight} * value${i};`).join('\n')}`
          }),
          8,
        )}
      }
    }
  }
  // One kind after the other: what all keys give, then by how much the masks change it.
  ${vectors.map((i) => `var exact${i} = vec4<f32>();`).join(' ')}
  var error = vec2<f32>();
  for (var kind = 0u; kind < 3u; kind++) {
    workgroupBarrier();
    weights[local] = select(select(sum_temporal, sum_spatial, kind == 1u), sum_full, kind == 0u);
    ${vectors
      .map(
        (i) =>
          `partial[local * ${vectors.length}u + ${i}u] = select(select(temporal${i}, spatial${i}, kind == 1u), full${i}, kind == 0u);`,
      )
      .join('\n    ')}
    workgroupBarrier();
    if (local < UNITS) {
      var sum = 0.0;
      ${vectors.map((i) => `var out${i} = vec4<f32>();`).join(' ')}
      for (var other = 0u; other < PARTS; other++) {
        sum += weights[other * UNITS + local];
        ${vectors.map((i) => `out${i} += partial[(other * UNITS + local) * ${vectors.length}u + ${i}u];`).join('\n        ')}
      }
      ${vectors.map((i) => `let change${i} = out${i} / sum - exact${i};`).join(' ')}
      let squares = ${vectors.map((i) => `dot(change${i}, change${i})`).join(' + ')};
      if (kind == 0u) {
        ${vectors.map((i) => `exact${i} = change${i};`).join(' ')}
      } else {
        error += select(vec2<f32>(0.0, squares), vec2<f32>(squares, 0.0), kind == 1u);
      }
    }
  }
  workgroupBarrier();
  if (local < UNITS) { partial[local] = vec4<f32>(error, 0.0, 0.0); }
  workgroupBarrier();
  if (local == 0u) {
    var all = vec2<f32>();
    for (var i = 0u; i < UNITS; i++) { all += partial[i].xy; }
    errors[head * u.rows + workgroup.x] = all;
  }
}
`
  return {
    label: 'head-errors',
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: INVOCATIONS * (16 + 16 * vectors.length + 4),
  }
}

export const headOrdersUniforms = { ...videoUniforms, rows: 'u32' } as const

/** Tokens of a workgroup. */
export const ORDER_TOKENS = 1024

/** The order of the tokens of each head, by which mask changes its outputs less. */
export function emitHeadOrders(): KernelSource {
  const code = `\
// order[h, i] = the i-th token of head h: i itself, or of a temporal head the tokens of one place in all frames after each
// other, place after place. A head is temporal if the sum of its temporal errors is less than that of its spatial ones (Sparse
// VideoGen, arXiv 2502.01776, §4.1 and §4.3). Text stays behind the video.
//
// errors vec2<f32> [B·Hq, rows]; order i32 [B·Hq, key_length]. One workgroup of 256 for ${ORDER_TOKENS} tokens of a head.
${uniformStruct('Uniforms', headOrdersUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> errors: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> order: array<i32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.y;
  var error = vec2<f32>();
  for (var r = 0u; r < u.rows; r++) { error += errors[head * u.rows + r]; }
  let temporal = error.y < error.x;
  let end = min((workgroup.x + 1u) * ${ORDER_TOKENS}u, u.key_length);
  for (var i = workgroup.x * ${ORDER_TOKENS}u + local; i < end; i += 256u) {
    var token = i;
    if (temporal && i < u.frames * u.frame_length) { token = i % u.frames * u.frame_length + i / u.frames; }
    order[head * u.key_length + i] = i32(token);
  }
}
`
  return {
    label: 'head-orders',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 256,
    workgroupBytes: 0,
  }
}
