import type { KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { uniformStruct } from '../shared/uniforms.js'

/** Rows of one workgroup. */
export const ROWS_PER_WORKGROUP = 1024

export const inversePermutationUniforms = {
  ...gridUniforms,
  segments: 'u32',
  /** Rows that an order has places for, and rows that it can name. */
  rows: 'u32',
  length: 'u32',
} as const

/** `clear` fills the inverse with −1, `invert` writes the places of the rows that an order names. */
export function emitInversePermutation(step: 'clear' | 'invert'): KernelSource {
  const count = step === 'clear' ? 'u.segments * u.length' : 'u.segments * u.rows'
  const body =
    step === 'clear'
      ? 'inverse[index] = -1;'
      : `\
    let source = u32(order[index]);
    if (source < u.length) { inverse[index / u.rows * u.length + source] = i32(index % u.rows); }`
  const code = `\
${step === 'clear' ? '// inverse[s, i] = −1.' : '// inverse[s, order[s, i]] = i, where the order names a row.'}
//
// Axes: ${step === 'clear' ? '' : 'order i32 [segments, rows], '}inverse i32 [segments, length]. One workgroup of 256 for ${ROWS_PER_WORKGROUP} of them.
${uniformStruct('Uniforms', inversePermutationUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> inverse: array<i32>;
${step === 'clear' ? '' : '@group(0) @binding(2) var<storage, read> order: array<i32>;\n'}
${workgroupNumberFunction}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let end = min((number + 1u) * ${ROWS_PER_WORKGROUP}u, ${count});
  for (var index = number * ${ROWS_PER_WORKGROUP}u + local; index < end; index += 256u) {
    ${body.trimStart()}
  }
}
`
  return {
    label: `inverse-permutation-${step}`,
    code,
    bindings: step === 'clear' ? ['uniform', 'read_write'] : ['uniform', 'read_write', 'read'],
    workgroupSize: 256,
    workgroupBytes: 0,
  }
}
