// Scores of pooled blocks, scores[h, a, c] = scale · q_means[h, a] · k_means[h / group_size, c] (the block-sparse heads of
// MInference, arXiv 2407.02490, §3.2).
//
// Axes: q_means f32 [B·Hq, query_blocks, D]; k_means f32 [B·Hkv, key_blocks, D]; scores f32 [B·Hq, rows, key_blocks], of the
// query blocks first_row … first_row + rows. Tiles in which no query block sees a key block are not written.
//
// 64 invocations compute 32 × 32 cells, 4 × 4 each, over 16 dimensions at a time.
struct Uniforms {
  query_length: u32,
  query_offset: i32,
  block_q: u32,
  block_k: u32,
  query_blocks: u32,
  key_blocks: u32,
  words: u32,
  query_heads: u32,
  group_size: u32,
  scale: f32,
  first_row: u32,
  rows: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q_means: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k_means: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;

const VECTORS = 16u; // vec4 in a row of means

var<workgroup> q_tile: array<vec4<f32>, 160>;
var<workgroup> k_tile: array<vec4<f32>, 160>;

fn visible_blocks(a: u32) -> u32 {
  let last_key = i32(min((a + 1u) * u.block_q, u.query_length)) - 1 + u.query_offset;
  return select(0u, min(u32(max(last_key, 0)) / u.block_k + 1u, u.key_blocks), last_key >= 0);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first_row = u.first_row + workgroup.y * 32u;
  let first_column = workgroup.x * 32u;
  if (first_column >= visible_blocks(min(first_row + 32u, u.query_blocks) - 1u)) { return; }
  let batch = workgroup.z / u.query_heads;
  let kv_heads = u.query_heads / u.group_size;
  let kv_head = batch * kv_heads + workgroup.z % u.query_heads / u.group_size;
  let cell_row = local / 8u * 4u;
  let cell_column = local % 8u * 4u;
  var sum0 = vec4<f32>(); var sum1 = vec4<f32>(); var sum2 = vec4<f32>(); var sum3 = vec4<f32>();

  for (var first_vector = 0u; first_vector < VECTORS; first_vector += 4u) {
    workgroupBarrier();
    for (var index = local; index < 128u; index += 64u) {
      let tile_row = index / 4u;
      let vector = first_vector + index % 4u;
      let at = tile_row * 5u + index % 4u;
      let a = first_row + tile_row;
      let c = first_column + tile_row;
      q_tile[at] = vec4<f32>();
      k_tile[at] = vec4<f32>();
      if (a < u.query_blocks) { q_tile[at] = q_means[(workgroup.z * u.query_blocks + a) * VECTORS + vector]; }
      if (c < u.key_blocks) { k_tile[at] = k_means[(kv_head * u.key_blocks + c) * VECTORS + vector]; }
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

  let first_cell = workgroup.z * u.rows + first_row - u.first_row;
  {
    let row = cell_row + 0u;
    let cells = sum0 * u.scale;
    for (var j = 0u; j < 4u; j++) {
      let column = first_column + cell_column + j;
      if (first_row - u.first_row + row < u.rows && column < u.key_blocks) {
        scores[(first_cell + row) * u.key_blocks + column] = cells[j];
      }
    }
  }
  {
    let row = cell_row + 1u;
    let cells = sum1 * u.scale;
    for (var j = 0u; j < 4u; j++) {
      let column = first_column + cell_column + j;
      if (first_row - u.first_row + row < u.rows && column < u.key_blocks) {
        scores[(first_cell + row) * u.key_blocks + column] = cells[j];
      }
    }
  }
  {
    let row = cell_row + 2u;
    let cells = sum2 * u.scale;
    for (var j = 0u; j < 4u; j++) {
      let column = first_column + cell_column + j;
      if (first_row - u.first_row + row < u.rows && column < u.key_blocks) {
        scores[(first_cell + row) * u.key_blocks + column] = cells[j];
      }
    }
  }
  {
    let row = cell_row + 3u;
    let cells = sum3 * u.scale;
    for (var j = 0u; j < 4u; j++) {
      let column = first_column + cell_column + j;
      if (first_row - u.first_row + row < u.rows && column < u.key_blocks) {
        scores[(first_cell + row) * u.key_blocks + column] = cells[j];
      }
    }
  }
}
