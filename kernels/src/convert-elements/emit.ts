import type { DType, KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { uniformStruct } from '../shared/uniforms.js'
import { packUnit, unpackUnit } from '../shared/wgsl.js'

/** Elements of one invocation: a unit of 16 bytes of halves. */
export const ELEMENTS_PER_UNIT = 8
export const UNITS_PER_WORKGROUP = 256

export const convertElementsUniforms = { ...gridUniforms, units: 'u32' } as const

/** Numbers in another dtype. */
export function emitConvertElements(to: DType): KernelSource {
  const body =
    to === 'f16'
      ? `\
  // Beyond the largest half, what packing gives is not defined.
  let low = clamp(source[2u * unit], vec4<f32>(-65504.0), vec4<f32>(65504.0));
  let high = clamp(source[2u * unit + 1u], vec4<f32>(-65504.0), vec4<f32>(65504.0));
  result[unit] = ${packUnit('f16', ['low', 'high'])};`
      : `\
  let halves = source[unit];
  ${unpackUnit('f16', 'halves', ['result[2u * unit]', 'result[2u * unit + 1u]'])}`
  const [from, into] = to === 'f16' ? ['vec4<f32>', 'vec4<u32>'] : ['vec4<u32>', 'vec4<f32>']
  const code = `\
// result[i] = source[i], ${to === 'f16' ? 'f32 rounded to f16' : 'f16 as f32'}.
//
// Axes: both [units of ${ELEMENTS_PER_UNIT}]. One invocation a unit, ${UNITS_PER_WORKGROUP} a workgroup.
${uniformStruct('Uniforms', convertElementsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> source: array<${from}>;
@group(0) @binding(2) var<storage, read_write> result: array<${into}>;

${workgroupNumberFunction}

@compute @workgroup_size(${UNITS_PER_WORKGROUP})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  let unit = number * ${UNITS_PER_WORKGROUP}u + local;
  if (number >= u.end_workgroup || unit >= u.units) { return; }
${body}
}
`
  return {
    label: `convert-elements-to-${to}`,
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: UNITS_PER_WORKGROUP,
    workgroupBytes: 0,
  }
}
