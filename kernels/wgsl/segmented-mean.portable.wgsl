// means[s, g] = the mean of the rows order[s, starts[s, g]] … order[s, starts[s, g + 1] − 1] of x; without rows it stays as
// it is. sizes[s, g] = how many they are.
//
// Axes: x [B, H, L, D] f16, strided; s counts B·H; order i32 [B·H, L], or [B·H, groups] with one row each; starts
// i32 [B·H, groups + 1]; means f32 [B·H, groups, D]; sizes u32 [B·H, groups].
//
// One workgroup of 256 a group: PARTS rows at a time, 16 bytes an invocation, then the parts added in order. f32 sums.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  x_offset: u32,
  x_batch_stride: u32,
  x_head_stride: u32,
  x_row_stride: u32,
  heads: u32,
  length: u32,
  groups: u32,
  one_row_each: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> order: array<i32>;
@group(0) @binding(3) var<storage, read> starts: array<i32>;
@group(0) @binding(4) var<storage, read_write> means: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> sizes: array<u32>;

const UNITS = 8u; // of 16 bytes in a row
const PARTS = 32u;

var<workgroup> partial: array<vec4<f32>, 512>;

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let segment = number / u.groups;
  let group = number % u.groups;
  var first = segment * u.groups + group;
  var end = first + 1u;
  if (u.one_row_each == 0u) {
    first = segment * u.length + u32(starts[segment * (u.groups + 1u) + group]);
    end = segment * u.length + u32(starts[segment * (u.groups + 1u) + group + 1u]);
  }
  if (local == 0u) { sizes[number] = end - first; }
  if (first == end) { return; }

  let column = u.x_offset + segment / u.heads * u.x_batch_stride + segment % u.heads * u.x_head_stride + local % UNITS;
  var sum0 = vec4<f32>(); var sum1 = vec4<f32>();
  if (local < UNITS * PARTS) {
    for (var place = first + local / UNITS; place < end; place += PARTS) {
      let unit = x[column + u32(order[place]) * u.x_row_stride];
      var value0: vec4<f32>; var value1: vec4<f32>;
      value0 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      value1 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
      sum0 += value0; sum1 += value1;
    }
  }
  partial[local * 2u + 0u] = sum0;
  partial[local * 2u + 1u] = sum1;
  workgroupBarrier();
  if (local >= UNITS) { return; }
  for (var part = 1u; part < PARTS; part++) {
    sum0 += partial[(part * UNITS + local) * 2u + 0u];
    sum1 += partial[(part * UNITS + local) * 2u + 1u];
  }
  let out = (number * UNITS + local) * 2u;
  means[out + 0u] = sum0 / f32(end - first);
  means[out + 1u] = sum1 / f32(end - first);
}
