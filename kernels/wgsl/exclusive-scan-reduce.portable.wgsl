// sums[n] = the sum of block n of data, 2048 elements, modulo 2^32.
//
// data u32 [length]; sums u32 [ceil(length / 2048)]. One workgroup of 256 a block.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  length: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> data: array<u32>;
@group(0) @binding(2) var<storage, read_write> sums: array<u32>;

var<workgroup> partial: array<u32, 256>;

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let block = workgroup_number(workgroup);
  if (block >= u.end_workgroup) { return; }
  let end = min((block + 1u) * 2048u, u.length);
  var sum = 0u;
  for (var i = block * 2048u + local; i < end; i += 256u) { sum += data[i]; }
  partial[local] = sum;
  for (var step = 128u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (local < step) { partial[local] += partial[local + step]; }
  }
  if (local == 0u) { sums[block] = partial[0]; }
}
