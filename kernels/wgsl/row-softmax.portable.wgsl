// Softmax of each row of scores f32 [heads, rows, columns], in place, over the columns that the row sees; the others become 0.
// A NaN score counts as −∞, ±∞ as the largest number, so that one bad key spoils no other cell.
//
// One workgroup of 64 invocations a row.
struct Uniforms {
  rows: u32,
  columns: u32,
  first_row: u32,
  stride: u32,
  query_offset: i32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> scores: array<f32>;

var<workgroup> partial: array<f32, 64>;

// Compilers may assume that NaN and infinity never occur and fold x != x, so this looks at the bits.
fn ordered(x: f32) -> f32 {
  let magnitude = bitcast<u32>(x) & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return -3.4028234e38; }
  return clamp(x, -3.4028234e38, 3.4028234e38);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = workgroup.x;
  let start = (workgroup.y * u.rows + row) * u.columns;
  let last_key = i32((u.first_row + row + 1u) * u.stride) - 1 + u.query_offset;
  let visible = u32(clamp(select(-1, last_key / i32(u.stride), last_key >= 0) + 1, 0, i32(u.columns)));

  var top = -3.4028234e38;
  for (var c = local; c < visible; c += 64u) { top = max(top, ordered(scores[start + c])); }
  partial[local] = top;
  workgroupBarrier();
  for (var i = 0u; i < 64u; i++) { top = max(top, partial[i]); }
  workgroupBarrier();

  // In natural units: scores carry the softmax scale. The clamp keeps the difference of huge scores finite.
  var sum = 0.0;
  for (var c = local; c < visible; c += 64u) {
    let x = ordered(scores[start + c]);
    // Only NaN is exactly the lowest number: it weighs nothing, also in a row of nothing else.
    let weight = select(exp(max(x - top, -1000.0)), 0.0, x == -3.4028234e38);
    scores[start + c] = weight;
    sum += weight;
  }
  partial[local] = sum;
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < 64u; i++) { sum += partial[i]; }
  let inverse = select(1.0 / sum, 0.0, sum == 0.0);
  for (var c = local; c < u.columns; c += 64u) {
    scores[start + c] = select(0.0, scores[start + c] * inverse, c < visible);
  }
}
