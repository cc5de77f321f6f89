import type { DType, KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, range, unitType, unpackUnit } from '../shared/wgsl.js'

export interface SegmentedMeanOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
}

export const segmentedMeanUniforms = {
  ...gridUniforms,
  ...addressFields('x'),
  heads: 'u32',
  length: 'u32',
  groups: 'u32',
  /** 1: group g is the one row order[g], and nothing is read from starts. */
  one_row_each: 'u32',
} as const

/** Few, since groups are small and many: 4 to 16 rows at a time at the usual head dims. */
const INVOCATIONS = 64

/** Means of groups of rows: one workgroup a group. */
export function emitSegmentedMean({ dtype, headDim }: SegmentedMeanOptions): KernelSource {
  const perUnit = elementsPerUnit(dtype)
  const units = headDim / perUnit
  const vectors = range(perUnit / 4)
  const code = `\
// means[s, g] = the mean of the rows order[s, starts[s, g]] … order[s, starts[s, g + 1] − 1] of x; without rows it stays as
// it is. sizes[s, g] = how many they are.
//
// Axes: x [B, H, L, D] ${dtype}, strided; s counts B·H; order i32 [B·H, L], or [B·H, groups] with one row each; starts
// i32 [B·H, groups + 1]; means f32 [B·H, groups, D]; sizes u32 [B·H, groups].
//
// One workgroup of ${INVOCATIONS} a group: PARTS rows at a time, 16 bytes an invocation, then the parts added in order. f32 sums.
${uniformStruct('Uniforms', segmentedMeanUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read> order: array<i32>;
@group(0) @binding(3) var<storage, read> starts: array<i32>;
@group(0) @binding(4) var<storage, read_write> means: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> sizes: array<u32>;

const UNITS = ${units}u; // of 16 bytes in a row
const PARTS = ${Math.floor(INVOCATIONS / units)}u;

var<workgroup> partial: array<vec4<f32>, ${INVOCATIONS * vectors.length}>;

${workgroupNumberFunction}

@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let segment = number / u.groups;
  let group = number % u.groups;
  var first = segment * u.groups + group;
  var end = first + 1u;
  if (u.one_row_each == 0u) {
    first = segment * u.length + u32(starts[segment * (u.groups + 1u) + group]);
    end = segment * u.length + u32(starts[segment * (u.groups + 1u) + group + 1u]);
  }
  if (local == 0u) { sizes[number] = end - first; }
  if (first == end) { return; }

  let column = u.x_offset + segment / u.heads * u.x_batch_stride + segment % u.heads * u.x_head_stride + local % UNITS;
  ${vectors.map((i) => `var sum${i} = vec4<f32>();`).join(' ')}
  if (local < UNITS * PARTS) {
    for (var place = first + local / UNITS; place < end; place += PARTS) {
      let unit = x[column + u32(order[place]) * u.x_row_stride];
      ${vectors.map((i) => `var value${i}: vec4<f32>;`).join(' ')}
      ${indent(
        unpackUnit(
          dtype,
          'unit',
          vectors.map((i) => `value${i}`),
        ),
        6,
      )}
      ${vectors.map((i) => `sum${i} += value${i};`).join(' ')}
    }
  }
  ${vectors.map((i) => `partial[local * ${vectors.length}u + ${i}u] = sum${i};`).join('\n  ')}
  workgroupBarrier();
  if (local >= UNITS) { return; }
  for (var part = 1u; part < PARTS; part++) {
    ${vectors.map((i) => `sum${i} += partial[(part * UNITS + local) * ${vectors.length}u + ${i}u];`).join('\n    ')}
  }
  let out = (number * UNITS + local) * ${vectors.length}u;
  ${vectors.map((i) => `means[out + ${i}u] = sum${i} / f32(end - first);`).join('\n  ')}
}
`
  return {
    label: 'segmented-mean',
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: INVOCATIONS * vectors.length * 16,
  }
}
