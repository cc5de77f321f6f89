// counts[s, bin, tile] = how many rows of a tile of segment s fall into a bin. Bins lie outside tiles, so that a scan over
// everything gives the place of each tile's first row of each bin in the sorted order.
//
// Axes: keys u32 [segments, length]; counts u32 [segments, bins, tiles]. One workgroup of 256 a tile, which walks over it
// once for every 1024 bins.
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
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;

var<workgroup> in_bin: array<atomic<u32>, 1024>; // of the bins in work; zeros at first

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
  let end = min((tile + 1u) * u.tile_length, u.length);
  for (var window = 0u; window < u.bins; window += 1024u) {
    for (var i = tile * u.tile_length + local; i < end; i += 256u) {
      let bin = bin_of(keys[segment * u.length + i]) - window; // wraps below the window
      if (bin < 1024u) { atomicAdd(&in_bin[bin], 1u); }
    }
    workgroupBarrier();
    for (var bin = local; bin < min(1024u, u.bins - window); bin += 256u) {
      counts[(segment * u.bins + window + bin) * u.tiles + tile] = atomicExchange(&in_bin[bin], 0u);
    }
    workgroupBarrier();
  }
}
