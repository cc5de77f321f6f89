// inverse[s, i] = −1.
//
// Axes: inverse i32 [segments, length]. One workgroup of 256 for 1024 of them.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  segments: u32,
  rows: u32,
  length: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> inverse: array<i32>;

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let end = min((number + 1u) * 1024u, u.segments * u.length);
  for (var index = number * 1024u + local; index < end; index += 256u) {
    inverse[index] = -1;
  }
}
