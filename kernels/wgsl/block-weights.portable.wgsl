// weights[a, c] = Σ over the rows u of query block a of softmax(scores[u, …]) summed over key block c, from statistics of
// the scores: (m, Σ exp(score − m)) for each row and key block. Key blocks that no row sees get 0.
//
// statistics f32 [heads, rows, key_blocks, 2], of the strided rows first_row … first_row + rows; weights f32 [heads,
// query_blocks, key_blocks], of which those rows' blocks are written.
//
// One workgroup of 256 a block of queries: 32 lanes a row find its softmax, then a lane sums a key block over the rows.
struct Uniforms {
  rows: u32,
  first_row: u32,
  query_offset: i32,
  query_blocks: u32,
  key_blocks: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> weights: array<f32>;

var<workgroup> parts: array<vec2<f32>, 256>;
var<workgroup> softmax: array<vec2<f32>, 8>; // of each row: largest score, inverse sum

fn join_parts(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
  let largest = max(a.x, b.x);
  return vec2<f32>(largest, a.y * exp(max(a.x - largest, -1000.0)) + b.y * exp(max(b.x - largest, -1000.0)));
}

// Key blocks of which a row sees a key.
fn seen_blocks(row: u32) -> u32 {
  let last_key = i32((u.first_row + row + 1u) * 16u) - 1 + u.query_offset;
  return select(0u, min(u32(max(last_key, 0)) / 128u + 1u, u.key_blocks), last_key >= 0);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first_row = workgroup.x * 8u;
  let rows = min(u.rows - first_row, 8u);
  let start = (workgroup.y * u.rows + first_row) * u.key_blocks;

  let row = local / 32u;
  var part = vec2<f32>(-3.4028234e38, 0.0);
  if (row < rows) {
    let seen = seen_blocks(first_row + row);
    for (var c = local % 32u; c < seen; c += 32u) { part = join_parts(part, statistics[start + row * u.key_blocks + c]); }
  }
  parts[local] = part;
  workgroupBarrier();
  if (local < rows) {
    var all = parts[local * 32u];
    for (var i = 1u; i < 32u; i++) { all = join_parts(all, parts[local * 32u + i]); }
    // A row of nothing but NaN, or that sees no key, has no weights.
    softmax[local] = vec2<f32>(all.x, select(1.0 / all.y, 0.0, all.y == 0.0));
  }
  workgroupBarrier();

  let row_of_weights = (workgroup.y * u.query_blocks + u.first_row / 8u + workgroup.x) * u.key_blocks;
  for (var c = local; c < u.key_blocks; c += 256u) {
    var sum = 0.0;
    for (var i = 0u; i < rows; i++) {
      if (c < seen_blocks(first_row + i)) {
        let statistic = statistics[start + i * u.key_blocks + c];
        sum += statistic.y * exp(max(statistic.x - softmax[i].x, -1000.0)) * softmax[i].y;
      }
    }
    weights[row_of_weights + c] = sum;
  }
}
