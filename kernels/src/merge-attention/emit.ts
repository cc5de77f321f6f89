import type { DType, KernelSource } from '@sparse-attention/core'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, LOWEST, packUnit, range, unitType } from '../shared/wgsl.js'

export interface MergeAttentionOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  /** What is known of each row of a part: its LSE, or its largest score in base 2 and the sum of its weights below that. */
  readonly statistics: 'lse' | 'max-sum'
}

export const mergeAttentionUniforms = {
  ...addressFields('out'),
  heads: 'u32',
  query_length: 'u32',
  /** B · Hq · Lq */
  rows: 'u32',
  parts: 'u32',
} as const

/** Merges partial attention results of disjoint keys by their LSE: an invocation for each 16 bytes of the output. */
export function emitMergeAttention({ dtype, headDim, statistics }: MergeAttentionOptions): KernelSource {
  const pairs = statistics === 'max-sum'
  const perUnit = elementsPerUnit(dtype)
  const vectors = range(perUnit / 4)
  const code = `\
// out = Σₚ exp(lseₚ − lse) outₚ and lse = ln Σₚ exp(lseₚ), over parts that attended to disjoint keys.
//
// Axes: P parts, R = B·Hq·Lq rows, D head_dim. part_out f32 [P, R, D].
${
  pairs
    ? '// part_statistics f32 [P, R, 2]: the largest score in base 2, and Σ exp2(score − largest), 0 for parts without a key.'
    : '// part_statistics [P, R]: the LSE as f32 bits, natural log, −∞ for parts without a key.'
}
// out [B, Hq, Lq, D] ${dtype}, strided; lse [B, Hq, Lq] f32 bits. A row without any key gives 0 and −∞.
${uniformStruct('Uniforms', mergeAttentionUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> part_out: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> part_statistics: array<${pairs ? 'vec2<f32>' : 'u32'}>;
@group(0) @binding(3) var<storage, read_write> out: array<${unitType(dtype)}>;
@group(0) @binding(4) var<storage, read_write> lse: array<u32>;

const UNITS = ${headDim / perUnit}u; // 16-byte units of a row of out
const NOTHING = 0xff800000u; // −∞: compared as bits, since compilers may assume that it does not occur

// The largest score of a part's row, ${pairs ? 'in base 2' : 'natural'}, and the sum of its weights below that: 0 without a key.
fn statistics(part: u32, row: u32) -> vec2<f32> {
  ${
    pairs
      ? 'return part_statistics[part * u.rows + row];'
      : `let bits = part_statistics[part * u.rows + row];
  if (bits == NOTHING) { return vec2<f32>(); }
  return vec2<f32>(bitcast<f32>(bits), 1.0);`
  }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = id.y * groups.x * 64u + id.x;
  let row = index / UNITS;
  let unit = index % UNITS;
  if (row >= u.rows) { return; }
  var largest = ${LOWEST};
  var empty = true;
  for (var part = 0u; part < u.parts; part++) {
    let known = statistics(part, row);
    if (known.y == 0.0) { continue; }
    empty = false;
    largest = max(largest, known.x);
  }
  var sum = 0.0;
  ${vectors.map((i) => `var total${i} = vec4<f32>();`).join(' ')}
  for (var part = 0u; part < u.parts; part++) {
    let known = statistics(part, row);
    if (known.y == 0.0) { continue; }
    // The difference may overflow on huge logits; any number below −126 gives the same 0.
    let weight = known.y * exp2(max(known.x - largest, -1000.0)${pairs ? '' : ' * 1.4426950408889634'});
    sum += weight;
    let at = ((part * u.rows + row) * UNITS + unit) * ${vectors.length}u;
    ${vectors.map((i) => `total${i} += weight * part_out[at + ${i}u];`).join('\n    ')}
  }
  let inverse = select(1.0 / sum, 0.0, empty);
  ${vectors.map((i) => `total${i} *= inverse;`).join(' ')}
  let query = row % u.query_length;
  let head = row / u.query_length % u.heads;
  let batch = row / u.query_length / u.heads;
  out[u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + query * u.out_row_stride + unit] =
    ${indent(
      packUnit(
        dtype,
        vectors.map((i) => `total${i}`),
      ),
      4,
    )};
  if (unit == 0u) { lse[row] = select(bitcast<u32>(${pairs ? '(largest + log2(sum)) * 0.6931471805599453' : 'largest + log2(sum) * 0.6931471805599453'}), NOTHING, empty); }
}
`
  return {
    label: 'merge-attention',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}
