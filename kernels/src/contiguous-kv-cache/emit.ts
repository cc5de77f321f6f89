import type { KernelSource } from '@sparse-attention/core'
import { addressFields, uniformStruct } from '../shared/uniforms.js'

export const appendRowsUniforms = {
  ...addressFields('from'),
  /** New rows of a head, and 16-byte units of a row. */
  rows: 'u32',
  units: 'u32',
  /** Of the cache: units of a head and of a batch entry, and the unit at which the new rows start in a head. */
  head_stride: 'u32',
  batch_stride: 'u32',
  start: 'u32',
} as const

/** Copies strided rows behind those that a cache holds: any dtype, 16 bytes an invocation. */
export function emitAppendRows(): KernelSource {
  const code = `\
// cache[b, h, held + n] = rows[b, h, n]
//
// Axes: rows [B, Hkv, n, D], strided; cache [B, Hkv, capacity, D], contiguous. Both in units of 16 bytes.
//
// Invocations take one unit after another of a head; workgroups (any number, Hkv, B).
${uniformStruct('Uniforms', appendRowsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> cache: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let source = u.from_offset + workgroup.z * u.from_batch_stride + workgroup.y * u.from_head_stride;
  let target_start = workgroup.z * u.batch_stride + workgroup.y * u.head_stride + u.start;
  let count = u.rows * u.units;
  for (var i = workgroup.x * 64u + local; i < count; i += workgroups.x * 64u) {
    cache[target_start + i] = rows[source + (i / u.units) * u.from_row_stride + i % u.units];
  }
}
`
  return {
    label: 'append-rows',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}
