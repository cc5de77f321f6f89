// out[b, h, i] = x[b, h / x_group, order[b, h / order_group, i]]; zeros where the order names no row of x, as −1 does.
//
// Axes: x [B, H / x_group, length, D], out [B, H, rows, D] f16, strided; order i32 [B, H / order_group, rows].
//
// One workgroup of 256 for 1024 units of 16 bytes, moved as bits.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  x_offset: u32,
  x_batch_stride: u32,
  x_head_stride: u32,
  x_row_stride: u32,
  out_offset: u32,
  out_batch_stride: u32,
  out_head_stride: u32,
  out_row_stride: u32,
  heads: u32,
  x_group: u32,
  order_group: u32,
  length: u32,
  rows: u32,
  units: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> order: array<i32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;

const UNITS = 8u; // of a row

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let end = min((number + 1u) * 1024u, u.units);
  for (var index = number * 1024u + local; index < end; index += 256u) {
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
