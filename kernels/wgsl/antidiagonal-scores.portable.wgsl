// Antidiagonal scores of XAttention (arXiv 2503.16428, §2.1), stride S = 16, causal in stride units:
// scores[u, v] = scale/S · Σ_{r<S} q[uS + S−1−r] · k[vS + r], rows past the end counting as zero.
//
// Axes: q [B, Hq, Lq, D] and k [B, Hkv, Lk, D] f16, strided; scores f32 [B·Hq, rows, columns], of the strided rows
// first_row … first_row + rows. Tiles in which no query sees a key are not written.
//
// 64 invocations compute 32 × 32 cells, 4 × 4 each, over 16 dimensions at a time.
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
  rows: u32,
  columns: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;

const STRIDE = 16u;
const UNITS = 8u;
const STAGED_UNITS = 2u;

var<workgroup> q_tile: array<vec4<f32>, 160>;
var<workgroup> k_tile: array<vec4<f32>, 160>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = workgroup.z / u.query_heads;
  let head = workgroup.z % u.query_heads;
  let first_column = workgroup.x * 32u;
  let first_row = u.first_row + workgroup.y * 32u;
  let last_query = i32((first_row + 32u) * STRIDE) - 1;
  if (i32(first_column * STRIDE) > last_query + u.query_offset) { return; }
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

  let first_cell = workgroup.z * u.rows + first_row - u.first_row;
  {
    let row = cell_row + 0u;
    let cells = sum0 * u.scale;
    for (var j = 0u; j < 4u; j++) {
      let column = first_column + cell_column + j;
      if (first_row - u.first_row + row < u.rows && column < u.columns) {
        scores[(first_cell + row) * u.columns + column] = cells[j];
      }
    }
  }
  {
    let row = cell_row + 1u;
    let cells = sum1 * u.scale;
    for (var j = 0u; j < 4u; j++) {
      let column = first_column + cell_column + j;
      if (first_row - u.first_row + row < u.rows && column < u.columns) {
        scores[(first_cell + row) * u.columns + column] = cells[j];
      }
    }
  }
  {
    let row = cell_row + 2u;
    let cells = sum2 * u.scale;
    for (var j = 0u; j < 4u; j++) {
      let column = first_column + cell_column + j;
      if (first_row - u.first_row + row < u.rows && column < u.columns) {
        scores[(first_cell + row) * u.columns + column] = cells[j];
      }
    }
  }
  {
    let row = cell_row + 3u;
    let cells = sum3 * u.scale;
    for (var j = 0u; j < 4u; j++) {
      let column = first_column + cell_column + j;
      if (first_row - u.first_row + row < u.rows && column < u.columns) {
        scores[(first_cell + row) * u.columns + column] = cells[j];
      }
    }
  }
}
