// data[i] becomes the sum of data[j] over j < i, modulo 2^32.
//
// data u32 [length].
//
// One workgroup of 256 for all blocks, one after the other: each invocation sums 8 neighbours, the sums are
// scanned by doubling, and the neighbours are walked over again.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  length: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> data: array<u32>;

var<workgroup> partial: array<u32, 256>;

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
fn main(@builtin(local_invocation_index) local: u32) {
  var carry = 0u;
  for (var block = 0u; block * 2048u < u.length; block++) {
    carry = scan_block(block, local, carry);
    workgroupBarrier(); // the next block writes what this one still reads
  }
}
