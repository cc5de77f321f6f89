// inverse[s, order[s, i]] = i, where the order names a row.
//
// Axes: order i32 [segments, rows], inverse i32 [segments, length]. One workgroup of 256 for 1024 of them.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  segments: u32,
  rows: u32,
  length: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> inverse: array<i32>;
@group(0) @binding(2) var<storage, read> order: array<i32>;

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let end = min((number + 1u) * 1024u, u.segments * u.rows);
  for (var index = number * 1024u + local; index < end; index += 256u) {
    let source = u32(order[index]);
    if (source < u.length) { inverse[index / u.rows * u.length + source] = i32(index % u.rows); }
  }
}
