// cache[b, h, held + n] = rows[b, h, n]
//
// Axes: rows [B, Hkv, n, D], strided; cache [B, Hkv, capacity, D], contiguous. Both in units of 16 bytes.
//
// Invocations take one unit after another of a head; workgroups (any number, Hkv, B).
struct Uniforms {
  from_offset: u32,
  from_batch_stride: u32,
  from_head_stride: u32,
  from_row_stride: u32,
  rows: u32,
  units: u32,
  head_stride: u32,
  batch_stride: u32,
  start: u32,
}

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
