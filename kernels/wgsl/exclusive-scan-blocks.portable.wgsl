// data[i] becomes the sum of data[j] over j < i, modulo 2^32. offsets[n] is that sum at the start of block n, 2048 elements.
//
// data u32 [length]; offsets u32 [ceil(length / 2048)].
//
// One workgroup of 256 a block: each invocation sums 8 neighbours, the sums are
// scanned by doubling, and the neighbours are walked over again.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  length: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> data: array<u32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;

var<workgroup> partial: array<u32, 256>;

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

// Scans one block in place, starting at `carry`; returns the sum of everything before the next one.
fn scan_block(block: u32, local: u32, carry: u32) -> u32 {
  let first = block * 2048u + local * 8u;
  let end = min(first + 8u, u.length);
  var sum = 0u;
  for (var i = first; i < end; i++) { sum += data[i]; }
  partial[local] = sum;
  for (var step = 1u; step < 256u; step *= 2u) {
    workgroupBarrier();
    var earlier = 0u;
    if (local >= step) { earlier = partial[local - step]; }
    workgroupBarrier();
    partial[local] += earlier;
  }
  workgroupBarrier();
  var before = carry + partial[local] - sum;
  let after = carry + partial[255];
  for (var i = first; i < end; i++) {
    let value = data[i];
    data[i] = before;
    before += value;
  }
  return after;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let block = workgroup_number(workgroup);
  if (block >= u.end_workgroup) { return; }
  _ = scan_block(block, local, offsets[block]);
}
