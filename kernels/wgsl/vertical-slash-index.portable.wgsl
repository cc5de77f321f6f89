// For each block of 64 query rows, the keys that its head's verticals and slashes ask for (MInference, arXiv 2407.02490,
// §3.2): tiles of 64 keys that cover the slashes, and the verticals outside of them as single columns.
//
// verticals i32[heads, vertical_capacity] and slashes i32[heads, slash_capacity], ascending; vertical_counts, slash_counts
// i32[heads]. counts i32[2, heads, query_blocks]: tiles, columns; indices: tiles i32[heads, query_blocks, tile_capacity], then
// columns i32[heads, query_blocks, column_capacity]; what lies behind the counts is not written.
//
// Rows at positions start … end see slash o as keys start − o … end − o, one tile. Largest offset first, tiles that overlap or
// touch grow into a range. One invocation a row block merges its slashes with the verticals, both ascending in keys.
struct Uniforms {
  heads: u32,
  query_blocks: u32,
  query_offset: i32,
  vertical_capacity: u32,
  slash_capacity: u32,
  tile_capacity: u32,
  column_capacity: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> vertical_counts: array<i32>;
@group(0) @binding(2) var<storage, read> verticals: array<i32>;
@group(0) @binding(3) var<storage, read> slash_counts: array<i32>;
@group(0) @binding(4) var<storage, read> slashes: array<i32>;
@group(0) @binding(5) var<storage, read_write> counts: array<i32>;
@group(0) @binding(6) var<storage, read_write> indices: array<i32>;

var<private> first_tile: u32;
var<private> tiles: u32;

fn add_tiles(range_start: i32, range_end: i32) {
  for (var key = range_start; key < range_end; key += 64) {
    if (tiles < u.tile_capacity) {
      indices[first_tile + tiles] = key;
      tiles++;
    }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let a = workgroup.x * 64u + local;
  if (a >= u.query_blocks) { return; }
  let head = workgroup.y;
  let row = head * u.query_blocks + a;
  let end = i32((a + 1u) * 64u) + u.query_offset;
  first_tile = row * u.tile_capacity;
  tiles = 0u;
  let first_column = u.heads * u.query_blocks * u.tile_capacity + row * u.column_capacity;
  var columns = 0u;

  let vertical = head * u.vertical_capacity;
  let vertical_end = vertical + u32(clamp(vertical_counts[head], 0, i32(u.vertical_capacity)));
  let slash = head * u.slash_capacity;
  // Slashes that start before the block's end: offsets below it.
  var low = slash;
  var high = slash + u32(clamp(slash_counts[head], 0, i32(u.slash_capacity)));
  while (low < high) {
    let middle = (low + high) / 2u;
    if (slashes[middle] < end) { low = middle + 1u; } else { high = middle; }
  }

  var next_vertical = vertical;
  var range_start = 0;
  var range_end = 0; // no range yet: no vertical lies before its end
  for (var next_slash = low; next_slash > slash; next_slash--) {
    let tile_end = max(end - slashes[next_slash - 1u], 64);
    if (tile_end > range_end + 64 || range_end == 0) {
      add_tiles(range_start, range_end);
      range_start = tile_end - 64;
      range_end = tile_end;
    } else if (tile_end > range_end) {
      range_end += 64;
    }
    while (next_vertical < vertical_end && verticals[next_vertical] < range_end) {
      if (verticals[next_vertical] < range_start && columns < u.column_capacity) {
        indices[first_column + columns] = verticals[next_vertical];
        columns++;
      }
      next_vertical++;
    }
  }
  add_tiles(range_start, range_end);
  // Without offset 0 there may be columns behind the last range.
  while (next_vertical < vertical_end && verticals[next_vertical] < end) {
    if (columns < u.column_capacity) {
      indices[first_column + columns] = verticals[next_vertical];
      columns++;
    }
    next_vertical++;
  }
  counts[row] = i32(tiles);
  counts[u.heads * u.query_blocks + row] = i32(columns);
}
