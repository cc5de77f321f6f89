import type { DType, KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit } from '../shared/wgsl.js'

/** 16-byte units that a workgroup moves. */
export const UNITS_PER_WORKGROUP = 1024

export interface ScatterRowsOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
}

export const scatterRowsUniforms = {
  ...gridUniforms,
  ...addressFields('x'),
  ...addressFields('out'),
  heads: 'u32',
  order_group: 'u32',
  length: 'u32',
  /** 16-byte units of x. */
  units: 'u32',
} as const

/** Takes rows of an output, and their LSE, to where an order says, bit for bit. */
export function emitScatterRows({ dtype, headDim }: ScatterRowsOptions): KernelSource {
  const code = `\
// out[b, h, order[b, h / order_group, i]] = x[b, h, i], and lse_out likewise of lse. A place that is no row is left out.
//
// Axes: x and out [B, H, length, D] ${dtype}, strided; lse and lse_out f32 [B, H, length]; order i32 [B, H / order_group, length].
//
// One workgroup of 256 for ${UNITS_PER_WORKGROUP} units of 16 bytes, moved as bits; the first of a row takes its LSE along.
${uniformStruct('Uniforms', scatterRowsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> lse: array<u32>;
@group(0) @binding(3) var<storage, read> order: array<i32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> lse_out: array<u32>;

const UNITS = ${headDim / elementsPerUnit(dtype)}u; // of a row

${workgroupNumberFunction}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let end = min((number + 1u) * ${UNITS_PER_WORKGROUP}u, u.units);
  for (var index = number * ${UNITS_PER_WORKGROUP}u + local; index < end; index += 256u) {
    let unit = index % UNITS;
    let place = index / UNITS % u.length;
    let batch = index / UNITS / u.length / u.heads;
    let head = index / UNITS / u.length % u.heads;
    let row = u32(order[(batch * (u.heads / u.order_group) + head / u.order_group) * u.length + place]);
    if (row >= u.length) { continue; }
    out[u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row * u.out_row_stride + unit] =
      x[u.x_offset + batch * u.x_batch_stride + head * u.x_head_stride + place * u.x_row_stride + unit];
    if (unit == 0u) {
      let first = (batch * u.heads + head) * u.length;
      lse_out[first + row] = lse[first + place];
    }
  }
}
`
  return {
    label: 'scatter-rows',
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: 256,
    workgroupBytes: 0,
  }
}
