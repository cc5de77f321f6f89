// scores[b, h, i, j] = scale · q[b, h, i] · k̂[b, h / group_size, j], with k̂ the packed keys: where Twilight (arXiv 2502.02770,
// §4) looks for what to keep. q · (zero + step · n) is taken as step · (q · n) + zero · Σ q.
//
// Axes: q [B, Hq, Lq, D] f16, strided; packed u32 [B·Hkv, capacity, 8]; scales u32 [B·Hkv, capacity], step and zero as two
// halves; scores f32 [B, Hq, Lq, key_length].
//
// One workgroup of 64 for 64 tokens of a KV head and 4 of the group_size · Lq rows that look at them.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  q_offset: u32,
  q_batch_stride: u32,
  q_head_stride: u32,
  q_row_stride: u32,
  query_length: u32,
  kv_heads: u32,
  group_size: u32,
  key_length: u32,
  capacity: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> packed: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;

const VECTORS = 16u; // vec4 of a row
const LOADS = 2u; // of a token

var<workgroup> queries: array<vec4<f32>, 64>;
var<workgroup> query_sums: array<f32, 4>;
const CODES = 16u; // words of a row of query codes

var<workgroup> codes: array<u32, 64>; // four signed bytes, in the order of the keys' words
var<workgroup> steps: array<f32, 4>;
var<workgroup> code_sums: array<i32, 4>;

fn dot4(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }

// Signed bytes that a row's elements are rounded to, in units of its step.
fn code(value: f32, step: f32) -> i32 { return i32(clamp(round(value / step), -127.0, 127.0)); }

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let all_rows = u.group_size * u.query_length;
  let row_blocks = (all_rows + 3u) / 4u;
  let tiles = (u.key_length + 63u) / 64u;
  let tile = number % tiles;
  let first_row = number / tiles % row_blocks * 4u;
  let segment = number / tiles / row_blocks;
  let first_head = segment % u.kv_heads * u.group_size;
  let batch = segment / u.kv_heads;

  for (var index = local; index < 32u; index += 64u) {
    let row = first_row + index / 8u;
    queries[index * 2u + 0u] = vec4<f32>(); queries[index * 2u + 1u] = vec4<f32>();
    if (row < all_rows) {
      let unit = q[u.q_offset + batch * u.q_batch_stride + (first_head + row / u.query_length) * u.q_head_stride
        + row % u.query_length * u.q_row_stride + index % 8u];
      queries[index * 2u + 0u] = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      queries[index * 2u + 1u] = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    }
  }
  workgroupBarrier();
  if (local < 4u) {
    var sum = 0.0;
    for (var i = 0u; i < VECTORS; i++) { sum += dot(queries[local * VECTORS + i], vec4<f32>(1.0)); }
    query_sums[local] = sum;
  }
  if (local < 4u) {
    var largest = 0.0;
    for (var i = 0u; i < VECTORS; i++) {
      let size = abs(queries[local * VECTORS + i]);
      largest = max(largest, max(max(size.x, size.y), max(size.z, size.w)));
    }
    let step = max(largest, 1e-30) / 127.0;
    var sum = 0;
    for (var i = 0u; i < VECTORS; i++) {
      let value = queries[local * VECTORS + i];
      sum += code(value.x, step) + code(value.y, step) + code(value.z, step) + code(value.w, step);
    }
    steps[local] = step;
    code_sums[local] = sum;
  }
  workgroupBarrier();
  for (var index = local; index < 4u * CODES; index += 64u) {
    let row = index / CODES;
    let i = index % CODES;
    let n = vec4<i32>(code(queries[(row * VECTORS * 4u + i / 2u * 8u + i % 2u + 0u) / 4u][(i / 2u * 8u + i % 2u + 0u) % 4u], steps[row]), code(queries[(row * VECTORS * 4u + i / 2u * 8u + i % 2u + 2u) / 4u][(i / 2u * 8u + i % 2u + 2u) % 4u], steps[row]), code(queries[(row * VECTORS * 4u + i / 2u * 8u + i % 2u + 4u) / 4u][(i / 2u * 8u + i % 2u + 4u) % 4u], steps[row]), code(queries[(row * VECTORS * 4u + i / 2u * 8u + i % 2u + 6u) / 4u][(i / 2u * 8u + i % 2u + 6u) % 4u], steps[row]));
    let bytes = bitcast<vec4<u32>>(n) & vec4<u32>(0xffu);
    codes[index] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
  }
  workgroupBarrier();
  workgroupBarrier();

  let token = tile * 64u + local;
  if (token >= u.key_length) { return; }
  var sum0: i32; var sum1: i32; var sum2: i32; var sum3: i32;
  let first_load = (segment * u.capacity + token) * LOADS;
  for (var load = 0u; load < LOADS; load++) {
    let loaded = packed[first_load + load];
    let vector = load * 8u;
    {
      let n = loaded[0] & 0x0f0f0f0fu;
      sum0 += dot4(codes[0u * CODES + vector + 0u], n);
      sum1 += dot4(codes[1u * CODES + vector + 0u], n);
      sum2 += dot4(codes[2u * CODES + vector + 0u], n);
      sum3 += dot4(codes[3u * CODES + vector + 0u], n);
    }
    {
      let n = (loaded[0] >> 4u) & 0x0f0f0f0fu;
      sum0 += dot4(codes[0u * CODES + vector + 1u], n);
      sum1 += dot4(codes[1u * CODES + vector + 1u], n);
      sum2 += dot4(codes[2u * CODES + vector + 1u], n);
      sum3 += dot4(codes[3u * CODES + vector + 1u], n);
    }
    {
      let n = loaded[1] & 0x0f0f0f0fu;
      sum0 += dot4(codes[0u * CODES + vector + 2u], n);
      sum1 += dot4(codes[1u * CODES + vector + 2u], n);
      sum2 += dot4(codes[2u * CODES + vector + 2u], n);
      sum3 += dot4(codes[3u * CODES + vector + 2u], n);
    }
    {
      let n = (loaded[1] >> 4u) & 0x0f0f0f0fu;
      sum0 += dot4(codes[0u * CODES + vector + 3u], n);
      sum1 += dot4(codes[1u * CODES + vector + 3u], n);
      sum2 += dot4(codes[2u * CODES + vector + 3u], n);
      sum3 += dot4(codes[3u * CODES + vector + 3u], n);
    }
    {
      let n = loaded[2] & 0x0f0f0f0fu;
      sum0 += dot4(codes[0u * CODES + vector + 4u], n);
      sum1 += dot4(codes[1u * CODES + vector + 4u], n);
      sum2 += dot4(codes[2u * CODES + vector + 4u], n);
      sum3 += dot4(codes[3u * CODES + vector + 4u], n);
    }
    {
      let n = (loaded[2] >> 4u) & 0x0f0f0f0fu;
      sum0 += dot4(codes[0u * CODES + vector + 5u], n);
      sum1 += dot4(codes[1u * CODES + vector + 5u], n);
      sum2 += dot4(codes[2u * CODES + vector + 5u], n);
      sum3 += dot4(codes[3u * CODES + vector + 5u], n);
    }
    {
      let n = loaded[3] & 0x0f0f0f0fu;
      sum0 += dot4(codes[0u * CODES + vector + 6u], n);
      sum1 += dot4(codes[1u * CODES + vector + 6u], n);
      sum2 += dot4(codes[2u * CODES + vector + 6u], n);
      sum3 += dot4(codes[3u * CODES + vector + 6u], n);
    }
    {
      let n = (loaded[3] >> 4u) & 0x0f0f0f0fu;
      sum0 += dot4(codes[0u * CODES + vector + 7u], n);
      sum1 += dot4(codes[1u * CODES + vector + 7u], n);
      sum2 += dot4(codes[2u * CODES + vector + 7u], n);
      sum3 += dot4(codes[3u * CODES + vector + 7u], n);
    }
  }
  let pair = unpack2x16float(scales[segment * u.capacity + token]);
  if (first_row + 0u < all_rows) {
    let out_row = (batch * u.kv_heads * u.group_size + first_head) * u.query_length + first_row + 0u;
    scores[out_row * u.key_length + token] = u.scale * (pair.x * steps[0u] * f32(sum0) + pair.y * query_sums[0u]);
  }
  if (first_row + 1u < all_rows) {
    let out_row = (batch * u.kv_heads * u.group_size + first_head) * u.query_length + first_row + 1u;
    scores[out_row * u.key_length + token] = u.scale * (pair.x * steps[1u] * f32(sum1) + pair.y * query_sums[1u]);
  }
  if (first_row + 2u < all_rows) {
    let out_row = (batch * u.kv_heads * u.group_size + first_head) * u.query_length + first_row + 2u;
    scores[out_row * u.key_length + token] = u.scale * (pair.x * steps[2u] * f32(sum2) + pair.y * query_sums[2u]);
  }
  if (first_row + 3u < all_rows) {
    let out_row = (batch * u.kv_heads * u.group_size + first_head) * u.query_length + first_row + 3u;
    scores[out_row * u.key_length + token] = u.scale * (pair.x * steps[3u] * f32(sum3) + pair.y * query_sums[3u]);
  }
}
