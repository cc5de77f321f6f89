// Asymmetric quantisation of keys, a scale and a zero for each token and KV head: zero = min, scale = (max − min) / 255,
// n = round((k − zero) / scale). The pair is rounded to f16 first, so that zero + scale · n is what n was chosen for.
// A scale is at least 2^-14, the smallest normal half: equal keys become n = 0.
//
// Axes: k [B, Hkv, rows, D] f16, strided; packed u32 [B·Hkv, capacity, 16], the first element in the lowest bits;
// scales u32 [B·Hkv, capacity], scale and zero as two halves. Token i of k is token first_token + i of the cache.
//
// One workgroup of 64 for ROWS tokens: 8 elements an invocation.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  k_offset: u32,
  k_batch_stride: u32,
  k_head_stride: u32,
  k_row_stride: u32,
  kv_heads: u32,
  rows: u32,
  first_token: u32,
  capacity: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> packed: array<u32>;
@group(0) @binding(3) var<storage, read_write> scales: array<u32>;

const LANES = 8u; // invocations of a token
const ROWS = 8u;
const MOST = vec4<f32>(65504.0); // the largest half

var<workgroup> partial: array<vec2<f32>, 64>; // minima and maxima

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let tiles = (u.rows + ROWS - 1u) / ROWS;
  let segment = number / tiles;
  let row = number % tiles * ROWS + local / LANES;
  let lane = local % LANES;
  let busy = local < ROWS * LANES && row < u.rows;
  var value0 = vec4<f32>();
  var value1 = vec4<f32>();
  if (busy) {
    let at = u.k_offset + segment / u.kv_heads * u.k_batch_stride + segment % u.kv_heads * u.k_head_stride
      + row * u.k_row_stride + lane * 1u;
    let unit = k[at];
    value0 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
    value1 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    value0 = clamp(value0, -MOST, MOST);
    value1 = clamp(value1, -MOST, MOST);
  }
  let low4 = min(value0, value1);
  let high4 = max(value0, value1);
  let low2 = min(low4.xy, low4.zw);
  let high2 = max(high4.xy, high4.zw);
  partial[local] = vec2<f32>(min(low2.x, low2.y), max(high2.x, high2.y));
  workgroupBarrier();
  if (!busy) { return; }

  var extremes = partial[local - lane];
  for (var i = 1u; i < LANES; i++) {
    let other = partial[local - lane + i];
    extremes = vec2<f32>(min(extremes.x, other.x), max(extremes.y, other.y));
  }
  let pair = pack2x16float(vec2<f32>(max((extremes.y - extremes.x) / 255.0, 0x1p-14), extremes.x));
  let scale = unpack2x16float(pair).x;
  let zero = unpack2x16float(pair).y;
  let n0 = vec4<u32>(clamp(round((value0 - zero) / scale), vec4<f32>(), vec4<f32>(255.0)));
  let n1 = vec4<u32>(clamp(round((value1 - zero) / scale), vec4<f32>(), vec4<f32>(255.0)));
  let token = segment * u.capacity + u.first_token + row;
  packed[(token * LANES + lane) * 2u] = dot(n0, vec4<u32>(1u, 256u, 65536u, 16777216u));
  packed[(token * LANES + lane) * 2u + 1u] = dot(n1, vec4<u32>(1u, 256u, 65536u, 16777216u));
  if (lane == 0u) { scales[token] = pair; }
}
