// keys[i] = a u32 that orders as scores[i] does, or the other way round.
//
// scores f32 [count], any; keys u32 [count]. One workgroup of 256 for 1024 numbers.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  count: u32,
  flip: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<u32>; // bits of f32, so that NaN and −0 arrive as they are
@group(0) @binding(2) var<storage, read_write> keys: array<u32>;

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

// Orders as the numbers do: the bits of negative ones fall as they rise, so they are inverted. −0 is 0, NaN counts as −∞.
fn sort_key(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude == 0u) { return 0x80000000u; }
  if (magnitude > 0x7f800000u) { return ~0xff800000u; }
  return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let end = min((number + 1u) * 1024u, u.count);
  for (var i = number * 1024u + local; i < end; i += 256u) { keys[i] = sort_key(scores[i]) ^ u.flip; }
}
