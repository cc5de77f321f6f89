import type { DType, KernelSource } from '@sparse-attention/core'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, range, unitType, unpackUnit } from '../shared/wgsl.js'

export interface BlockPoolOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
}

export const blockPoolUniforms = {
  ...addressFields('x'),
  heads: 'u32',
  length: 'u32',
  /** Rows of a block, and blocks of a head. */
  block: 'u32',
  blocks: 'u32',
} as const

/** Means of blocks of rows: one workgroup a block. */
export function emitBlockPool({ dtype, headDim }: BlockPoolOptions): KernelSource {
  const perUnit = elementsPerUnit(dtype)
  const units = headDim / perUnit
  const vectors = range(perUnit / 4)
  const code = `\
// means[h, n] = the mean of rows n · block … of x; the last block divides by the rows that it has.
//
// Axes: x [B, H, L, D] ${dtype}, strided; means f32 [B·H, blocks, D].
//
// One workgroup of 64 a block: PARTS rows at a time, 16 bytes an invocation, then the parts added in order. f32 sums.
${uniformStruct('Uniforms', blockPoolUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read_write> means: array<vec4<f32>>;

const UNITS = ${units}u; // of 16 bytes in a row
const PARTS = ${Math.floor(64 / units)}u;

var<workgroup> partial: array<vec4<f32>, ${64 * vectors.length}>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = workgroup.y / u.heads;
  let head = workgroup.y % u.heads;
  let first_row = workgroup.x * u.block;
  let end_row = min(first_row + u.block, u.length);
  let column = u.x_offset + batch * u.x_batch_stride + head * u.x_head_stride + local % UNITS;
  ${vectors.map((i) => `var sum${i} = vec4<f32>();`).join(' ')}
  if (local < UNITS * PARTS) {
    for (var row = first_row + local / UNITS; row < end_row; row += PARTS) {
      let unit = x[column + row * u.x_row_stride];
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
  let rows = f32(end_row - first_row);
  let out = ((workgroup.y * u.blocks + workgroup.x) * UNITS + local) * ${vectors.length}u;
  ${vectors.map((i) => `means[out + ${i}u] = sum${i} / rows;`).join('\n  ')}
}
`
  return {
    label: 'block-pool',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 64 * vectors.length * 16,
  }
}
