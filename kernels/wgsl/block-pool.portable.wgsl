// pooled[h, n] = the mean of rows n · block … of x; the last block divides by the rows that it has.
//
// Axes: x [B, H, L, D] f16, strided; pooled f32 [B·H, blocks, D].
//
// One workgroup of 64 a block: PARTS rows at a time, 16 bytes an invocation, then the parts combined in order.
struct Uniforms {
  x_offset: u32,
  x_batch_stride: u32,
  x_head_stride: u32,
  x_row_stride: u32,
  heads: u32,
  length: u32,
  block: u32,
  blocks: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> pooled: array<vec4<f32>>;

const UNITS = 8u; // of 16 bytes in a row
const PARTS = 8u;
const ROW = 16u; // vec4 in a row of pooled

var<workgroup> partial: array<vec4<f32>, 128>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = workgroup.y / u.heads;
  let head = workgroup.y % u.heads;
  let first_row = workgroup.x * u.block;
  let end_row = min(first_row + u.block, u.length);
  let column = u.x_offset + batch * u.x_batch_stride + head * u.x_head_stride + local % UNITS;
  var sum0 = vec4<f32>(); var sum1 = vec4<f32>();
  if (local < UNITS * PARTS) {
    for (var row = first_row + local / UNITS; row < end_row; row += PARTS) {
      let unit = x[column + row * u.x_row_stride];
      var value0: vec4<f32>; var value1: vec4<f32>;
      value0 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      value1 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
      sum0 = sum0 + value0;
      sum1 = sum1 + value1;
    }
  }
  partial[local * 2u + 0u] = sum0;
  partial[local * 2u + 1u] = sum1;
  workgroupBarrier();
  if (local >= UNITS) { return; }
  for (var part = 1u; part < PARTS; part++) {
    let at = (part * UNITS + local) * 2u;
    sum0 = sum0 + partial[at + 0u];
    sum1 = sum1 + partial[at + 1u];
  }
  let rows = f32(end_row - first_row);
  let out = (workgroup.y * u.blocks + workgroup.x) * ROW + local * 2u;
  pooled[out + 0u] = sum0 / rows;
  pooled[out + 1u] = sum1 / rows;
}
