// sums[h, a, c] = Σ of the cells of scores that lie in block (a, c). Blocks at the ends may be short.
// scores f32 [heads, rows, columns], of block rows first_block_row …; sums f32 [heads, query_blocks, key_blocks].
//
// One invocation a block, in a fixed order of addition.
struct Uniforms {
  rows: u32,
  columns: u32,
  block_rows: u32,
  block_columns: u32,
  first_block_row: u32,
  query_blocks: u32,
  key_blocks: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let c = workgroup.x * 64u + local;
  let a = workgroup.y;
  let head = workgroup.z;
  if (c >= u.key_blocks) { return; }
  let end_row = min((a + 1u) * u.block_rows, u.rows);
  let end_column = min((c + 1u) * u.block_columns, u.columns);
  var sum = 0.0;
  for (var row = a * u.block_rows; row < end_row; row++) {
    for (var column = c * u.block_columns; column < end_column; column++) {
      sum += scores[(head * u.rows + row) * u.columns + column];
    }
  }
  sums[(head * u.query_blocks + u.first_block_row + a) * u.key_blocks + c] = sum;
}
