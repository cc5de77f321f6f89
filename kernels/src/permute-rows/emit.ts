import type { DType, KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit } from '../shared/wgsl.js'

/** 16-byte units that a workgroup moves. */
export const UNITS_PER_WORKGROUP = 1024

export interface PermuteRowsOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
}

export const permuteRowsUniforms = {
  ...gridUniforms,
  ...addressFields('x'),
  ...addressFields('out'),
  /** Of out; how many of them share a head of x, and one of the order. */
  heads: 'u32',
  x_group: 'u32',
  order_group: 'u32',
  /** Of x, and of out. */
  length: 'u32',
  rows: 'u32',
  /** 16-byte units of out. */
  units: 'u32',
} as const

/** Gathers rows of a tensor, bit for bit. */
export function emitPermuteRows({ dtype, headDim }: PermuteRowsOptions): KernelSource {
  const code = `\
// out[b, h, i] = x[b, h / x_group, order[b, h / order_group, i]]; zeros where the order names no row of x, as −1 does.
//
// Axes: x [B, H / x_group, length, D], out [B, H, rows, D] ${dtype}, strided; order i32 [B, H / order_group, rows].
//
// One workgroup of 256 for ${UNITS_PER_WORKGROUP} units of 16 bytes, moved as bits.
${uniformStruct('Uniforms', permuteRowsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> order: array<i32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;

const UNITS = ${headDim / elementsPerUnit(dtype)}u; // of a row

${workgroupNumberFunction}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let end = min((number + 1u) * ${UNITS_PER_WORKGROUP}u, u.units);
  for (var index = number * ${UNITS_PER_WORKGROUP}u + local; index < end; index += 256u) {
    let unit = index % UNITS;
    let row = index / UNITS % u.rows;
    let batch = index / UNITS / u.rows / u.heads;
    let head = index / UNITS / u.rows % u.heads;
    let source = u32(order[(batch * (u.heads / u.order_group) + head / u.order_group) * u.rows + row]);
    var value = vec4<u32>();
    if (source < u.length) {
      value = x[u.x_offset + batch * u.x_batch_stride + head / u.x_group * u.x_head_stride + source * u.x_row_stride + unit];
    }
    out[u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row * u.out_row_stride + unit] = value;
  }
}
`
  return {
    label: 'permute-rows',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 256,
    workgroupBytes: 0,
  }
}
