// Moves the rows of each segment to where their bins lie in the sorted order; rows of one bin keep their order.
//
// Axes: keys u32 [segments, length]; offsets u32 [segments, bins, tiles]: where the next row of a bin and tile goes, counted
// over all segments, used up on return; order i32 [segments, length]: the row that comes i-th;
// starts i32 [segments, bins + 1]: the place of each bin's first row in its segment.
//
// One workgroup of 256 a tile, 256 rows at a time: an invocation counts the rows of its bin before its own. A tile's
// offsets belong to its workgroup alone, so nothing depends on timing.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  length: u32,
  bins: u32,
  tiles: u32,
  tile_length: u32,
  shift: u32,
  mask: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> offsets: array<u32>;
@group(0) @binding(3) var<storage, read_write> order: array<i32>;
@group(0) @binding(4) var<storage, read_write> starts: array<i32>;

const NO_BIN = 0xffffffffu;

var<workgroup> chunk: array<u32, 256>; // bins of the rows in work

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

fn bin_of(key: u32) -> u32 {
  return min((key >> u.shift) & u.mask, u.bins - 1u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let segment = number / u.tiles;
  let tile = number % u.tiles;
  let first_offset = segment * u.bins * u.tiles + tile;
  if (tile == 0u) {
    for (var bin = local; bin < u.bins; bin += 256u) {
      starts[segment * (u.bins + 1u) + bin] = i32(offsets[first_offset + bin * u.tiles] - segment * u.length);
    }
    if (local == 0u) { starts[(segment + 1u) * (u.bins + 1u) - 1u] = i32(u.length); }
    storageBarrier(); // the offsets move on below
  }
  let end = min((tile + 1u) * u.tile_length, u.length);
  for (var first = tile * u.tile_length; first < end; first += 256u) {
    let i = first + local;
    var key = 0u;
    var bin = NO_BIN;
    if (i < end) {
      key = keys[segment * u.length + i];
      bin = bin_of(key);
    }
    workgroupBarrier();
    chunk[local] = bin;
    workgroupBarrier();
    var before = 0u;
    var all = 0u;
    for (var j = 0u; j < 256u; j++) {
      let same = select(0u, 1u, chunk[j] == bin);
      all += same;
      before += select(0u, same, j < local);
    }
    let offset = first_offset + min(bin, u.bins - 1u) * u.tiles;
    let place = offsets[offset] + before;
    storageBarrier(); // all have read where their bins go on
    if (i < end) {
      order[place] = i32(i);
      if (before + 1u == all) { offsets[offset] = place + 1u; }
    }
    storageBarrier();
  }
}
