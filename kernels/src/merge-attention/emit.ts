import type { DType, KernelSource } from '@sparse-attention/core'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, LOWEST, packUnit, range, unitType } from '../shared/wgsl.js'

export interface MergeAttentionOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  /** What is known of each row of a part: its LSE, or its largest score in base 2 and the sum of its weights below that. */
  readonly statistics: 'lse' | 'max-sum'
  /** Whether invocations share the parts of a row: fast on GPUs, and slow to compile for software adapters. */
  readonly shared: boolean
}

export const mergeAttentionUniforms = {
  ...addressFields('out'),
  heads: 'u32',
  query_length: 'u32',
  /** B · Hq · Lq */
  rows: 'u32',
  parts: 'u32',
  /** How many invocations share the parts of 16 bytes of the output. */
  slots_per_row: 'u32',
} as const

/** Invocations of a workgroup. */
const LANES = 256

/** Parts that an invocation loads before it uses the first. */
const PARTS_AT_ONCE = 4

/** How many invocations at most share the parts of the same 16 bytes of a row. */
export function mergeSlots({ dtype, headDim }: Pick<MergeAttentionOptions, 'dtype' | 'headDim'>): number {
  return Math.floor(LANES / (headDim / elementsPerUnit(dtype)))
}

/** How many of them there is work for. */
export function slotsFor(parts: number, slots: number): number {
  return Math.min(slots, Math.max(1, Math.ceil(parts / PARTS_AT_ONCE)))
}

/**
 * Merges partial attention results of disjoint keys by their LSE: an invocation for each 16 bytes of the output, or several
 * that share the parts. A single one waits for memory once a part.
 */
export function emitMergeAttention({ dtype, headDim, statistics, shared }: MergeAttentionOptions): KernelSource {
  const pairs = statistics === 'max-sum'
  const perUnit = elementsPerUnit(dtype)
  const vectors = range(perUnit / 4)
  const atOnce = range(shared ? PARTS_AT_ONCE : 1)
  const slots = mergeSlots({ dtype, headDim })
  const exponent = (difference: string) =>
    // The difference may overflow on huge logits; any number below −126 gives the same 0.
    `exp2(max(${difference}, -1000.0)${pairs ? '' : ' * 1.4426950408889634'})`
  const addUp = `\
if (slot < SLOTS) {
    found[slot] = vec2<f32>(largest, sum);
    ${vectors.map((i) => `totals[local * ${vectors.length}u + ${i}u] = total${i};`).join(' ')}
  }
  workgroupBarrier();
  if (!mine || first != 0u) { return; }
  for (var other = 1u; other < u.slots_per_row; other++) {
    largest = max(largest, found[slot + other].x);
  }
  sum = 0.0;
  ${vectors.map((i) => `total${i} = vec4<f32>();`).join(' ')}
  for (var other = 0u; other < u.slots_per_row; other++) {
    let share = found[slot + other];
    let weight = ${exponent('share.x - largest')};
    sum += weight * share.y;
    let at = (local + other * UNITS) * ${vectors.length}u;
    ${vectors.map((i) => `total${i} += weight * totals[at + ${i}u];`).join(' ')}
  }`
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
//
// A workgroup has ${slots} slots, each with an invocation for every 16 bytes of a row of out. ${
    shared
      ? `A row has u.slots_per_row of them,
// which take turns with its parts; then the first adds up what the others have.`
      : 'A row has one of them.'
  }
${uniformStruct('Uniforms', mergeAttentionUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> part_out: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> part_statistics: array<${pairs ? 'vec2<f32>' : 'u32'}>;
@group(0) @binding(3) var<storage, read_write> out: array<${unitType(dtype)}>;
@group(0) @binding(4) var<storage, read_write> lse: array<u32>;

const UNITS = ${headDim / perUnit}u; // 16-byte units of a row of out
const SLOTS = ${slots}u;
const NOTHING = 0xff800000u; // −∞: compared as bits, since compilers may assume that it does not occur

${
  shared
    ? `\
// What each slot found: its largest score, the sum of its weights below that, and its share of the output.
var<workgroup> found: array<vec2<f32>, SLOTS>;
var<workgroup> totals: array<vec4<f32>, ${slots * vectors.length} * UNITS>;

`
    : ''
}// The largest score of a part's row, ${pairs ? 'in base 2' : 'natural'}, and the sum of its weights below that: 0 without a key.
fn statistics(part: u32, row: u32) -> vec2<f32> {
  if (part >= u.parts) { return vec2<f32>(${LOWEST}, 0.0); }
  ${
    pairs
      ? 'return part_statistics[part * u.rows + row];'
      : `let bits = part_statistics[part * u.rows + row];
  if (bits == NOTHING) { return vec2<f32>(${LOWEST}, 0.0); }
  return vec2<f32>(bitcast<f32>(bits), 1.0);`
  }
}

// Whether a part has a key: by bits, since a sum of NaN is one too, and comparisons may say otherwise.
fn holds(known: vec2<f32>) -> bool { return bitcast<u32>(known.y) != 0u; }

@compute @workgroup_size(${LANES})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let slot = local / UNITS;
  let unit = local % UNITS;
  let rows_here = SLOTS / u.slots_per_row;
  let row = (workgroup.y * groups.x + workgroup.x) * rows_here + slot / u.slots_per_row;
  let first = slot % u.slots_per_row;
  let mine = slot < rows_here * u.slots_per_row && row < u.rows;
  var largest = ${LOWEST};
  var sum = 0.0;
  ${vectors.map((i) => `var total${i} = vec4<f32>();`).join(' ')}
  if (mine) {
    for (var part = first; part < u.parts; part += ${atOnce.length}u * u.slots_per_row) {
      ${atOnce
        .map(
          (n) => `\
let part${n} = part + ${n}u * u.slots_per_row;
      let known${n} = statistics(part${n}, row);
      let at${n} = ((min(part${n}, u.parts - 1u) * u.rows + row) * UNITS + unit) * ${vectors.length}u;
      ${vectors.map((i) => `let value${n}_${i} = part_out[at${n} + ${i}u];`).join(' ')}`,
        )
        .join('\n      ')}
      var top = largest;
      ${atOnce.map((n) => `if (holds(known${n})) { top = max(top, known${n}.x); }`).join('\n      ')}
      let rescale = ${exponent('largest - top')};
      largest = top;
      sum *= rescale;
      ${vectors.map((i) => `total${i} *= rescale;`).join(' ')}
      ${atOnce
        .map(
          (n) => `\
if (holds(known${n})) { // else its output was never written
        let weight = known${n}.y * ${exponent(`known${n}.x - top`)};
        sum += weight;
        ${vectors.map((i) => `total${i} += weight * value${n}_${i};`).join(' ')}
      }`,
        )
        .join('\n      ')}
    }
  }
  ${shared ? addUp : 'if (!mine) { return; }'}
  let empty = sum == 0.0;
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
    workgroupSize: LANES,
    workgroupBytes: shared ? slots * (8 + (headDim / perUnit) * vectors.length * 16) : 0,
  }
}
