// What a softmax needs of the antidiagonal scores of XAttention (arXiv 2503.16428, §2.1), stride S = 16, causal in stride units:
// scores[u, v] = scale/S · Σ_{r<S} q[uS + S−1−r] · k[vS + r], rows past the end counting as zero;
// statistics[u, c] = (m, Σ_v exp(scores[u, v] − m)) over the 8 columns v of key block c that the row sees, m the largest of them.
// NaN counts as −∞, which weighs nothing, ±∞ as the largest number of its sign.
//
// Axes: q [B, Hq, Lq, D] and k [B, Hkv, Lk, D] f16, strided; statistics f32 [B·Hq, rows, key_blocks, 2], of the strided rows
// first_row … first_row + rows. Tiles in which no query sees a key are not written.
//
// 64 invocations compute 32 × 32 scores, 4 × 4 each, over 16 dimensions at a time.
struct Uniforms {
  q_offset: u32,
  q_batch_stride: u32,
  q_head_stride: u32,
  q_row_stride: u32,
  k_offset: u32,
  k_batch_stride: u32,
  k_head_stride: u32,
  k_row_stride: u32,
  query_heads: u32,
  group_size: u32,
  query_length: u32,
  key_length: u32,
  query_offset: i32,
  scale: f32,
  first_row: u32,
  first_tile: u32,
  rows: u32,
  columns: u32,
  key_blocks: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> statistics: array<vec2<f32>>;

const STRIDE = 16u;
const UNITS = 8u;
const STAGED_UNITS = 2u;

var<workgroup> q_tile: array<vec4<f32>, 160>;
var<workgroup> k_tile: array<vec4<f32>, 160>;
var<workgroup> parts: array<vec2<f32>, 256>; // [row][four columns]

// Compilers may assume that NaN and infinity never occur and fold x != x, so this looks at the bits.
fn ordered(x: f32) -> f32 {
  let magnitude = bitcast<u32>(x) & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return -3.4028234e38; }
  return clamp(x, -3.4028234e38, 3.4028234e38);
}

// Four scores of a strided row, from a column on; what the row does not see becomes the lowest number.
fn seen_scores(scores: vec4<f32>, row: u32, column: u32) -> vec4<f32> {
  let last_key = i32((row + 1u) * 16u) - 1 + u.query_offset;
  let visible = select(0u, min(u32(max(last_key, 0)) / 16u + 1u, u.columns), last_key >= 0);
  let finite = vec4<f32>(ordered(scores.x), ordered(scores.y), ordered(scores.z), ordered(scores.w));
  return select(vec4<f32>(-3.4028234e38), finite, vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(visible));
}

// (largest, Σ exp(score − largest)). The clamp keeps the difference of huge scores finite.
fn softmax_part(scores: vec4<f32>) -> vec2<f32> {
  let largest = max(max(scores.x, scores.y), max(scores.z, scores.w));
  let terms = exp(max(scores - largest, vec4<f32>(-1000.0)));
  let weights = select(terms, vec4<f32>(), scores == vec4<f32>(-3.4028234e38));
  return vec2<f32>(largest, (weights.x + weights.y) + (weights.z + weights.w));
}

fn join_parts(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
  let largest = max(a.x, b.x);
  return vec2<f32>(largest, a.y * exp(max(a.x - largest, -1000.0)) + b.y * exp(max(b.x - largest, -1000.0)));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = workgroup.z / u.query_heads;
  let head = workgroup.z % u.query_heads;
  let first_column = workgroup.x * 32u;
  let first_row = u.first_row + (u.first_tile + workgroup.y) * 32u;
  let last_query = i32((first_row + 32u) * 16u) - 1;
  if (i32(first_column * 16u) > last_query + u.query_offset) { return; }
  let q_head = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride;
  let k_head = u.k_offset + batch * u.k_batch_stride + head / u.group_size * u.k_head_stride;
  let cell_row = local / 8u * 4u;
  let cell_column = local % 8u * 4u;
  var sum0 = vec4<f32>(); var sum1 = vec4<f32>(); var sum2 = vec4<f32>(); var sum3 = vec4<f32>();

  for (var r = 0u; r < STRIDE; r++) {
    for (var first_unit = 0u; first_unit < UNITS; first_unit += STAGED_UNITS) {
      workgroupBarrier();
      for (var index = local; index < 32u * STAGED_UNITS; index += 64u) {
        let tile_row = index / STAGED_UNITS;
        let unit_in_row = index % STAGED_UNITS;
        let at = tile_row * 5u + unit_in_row * 2u;
        let q_row = (first_row + tile_row) * STRIDE + STRIDE - 1u - r;
        let k_row = (first_column + tile_row) * STRIDE + r;
        q_tile[at + 0u] = vec4<f32>(); q_tile[at + 1u] = vec4<f32>();
        if (q_row < u.query_length) {
          let unit = q[q_head + q_row * u.q_row_stride + first_unit + unit_in_row];
          q_tile[at + 0u] = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
          q_tile[at + 1u] = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
        }
        k_tile[at + 0u] = vec4<f32>(); k_tile[at + 1u] = vec4<f32>();
        if (k_row < u.key_length) {
          let unit = k[k_head + k_row * u.k_row_stride + first_unit + unit_in_row];
          k_tile[at + 0u] = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
          k_tile[at + 1u] = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
        }
      }
      workgroupBarrier();
      for (var d = 0u; d < 4u; d++) {
        let q0 = q_tile[(cell_row + 0u) * 5u + d];
        let q1 = q_tile[(cell_row + 1u) * 5u + d];
        let q2 = q_tile[(cell_row + 2u) * 5u + d];
        let q3 = q_tile[(cell_row + 3u) * 5u + d];
        let k0 = k_tile[(cell_column + 0u) * 5u + d];
        let k1 = k_tile[(cell_column + 1u) * 5u + d];
        let k2 = k_tile[(cell_column + 2u) * 5u + d];
        let k3 = k_tile[(cell_column + 3u) * 5u + d];
        sum0 += vec4<f32>(dot(q0, k0), dot(q0, k1), dot(q0, k2), dot(q0, k3));
        sum1 += vec4<f32>(dot(q1, k0), dot(q1, k1), dot(q1, k2), dot(q1, k3));
        sum2 += vec4<f32>(dot(q2, k0), dot(q2, k1), dot(q2, k2), dot(q2, k3));
        sum3 += vec4<f32>(dot(q3, k0), dot(q3, k1), dot(q3, k2), dot(q3, k3));
      }
    }
  }

  {
    let row = cell_row + 0u;
    let cells = sum0 * u.scale;
    parts[row * 8u + local % 8u] = softmax_part(seen_scores(cells, first_row + row, first_column + cell_column));
  }
  {
    let row = cell_row + 1u;
    let cells = sum1 * u.scale;
    parts[row * 8u + local % 8u] = softmax_part(seen_scores(cells, first_row + row, first_column + cell_column));
  }
  {
    let row = cell_row + 2u;
    let cells = sum2 * u.scale;
    parts[row * 8u + local % 8u] = softmax_part(seen_scores(cells, first_row + row, first_column + cell_column));
  }
  {
    let row = cell_row + 3u;
    let cells = sum3 * u.scale;
    parts[row * 8u + local % 8u] = softmax_part(seen_scores(cells, first_row + row, first_column + cell_column));
  }
  workgroupBarrier();

  let first_cell = (workgroup.z * u.rows + first_row - u.first_row) * u.key_blocks;
  for (var index = local; index < 128u; index += 64u) {
    let row = index / 4u;
    let block = first_column / 8u + index % 4u;
    let first_part = row * 8u + index % 4u * 2u;
    var all = parts[first_part];
    for (var i = 1u; i < 2u; i++) { all = join_parts(all, parts[first_part + i]); }
    if (first_row - u.first_row + row < u.rows && block < u.key_blocks) {
      statistics[first_cell + row * u.key_blocks + block] = all;
    }
  }
}
