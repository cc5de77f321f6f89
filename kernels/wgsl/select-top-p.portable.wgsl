// Top-p over block weights: in the order "forced blocks, then others by weight", keeps a block while the sum before it
// is below p times the row's total (XAttention, arXiv 2503.16428, §2.2). Ties go to the lower index.
//
// weights f32 [heads, query_blocks, key_blocks], not negative; NaN counts as 0.
// top_p f32 [layers · query_heads]. plan u32[heads, query_blocks, words]: on entry the forced blocks, on return the selection.
// Rows whose weights sum to 0, and rows with p ≥ 1, keep every visible block.
//
// No sort: bits of non-negative floats order as the floats do, so the weight at the cut is found by bisection on the
// bits, 31 steps, each a sum over the row. Sums are in a fixed order, so they shrink as the cut rises, rounding included.
// One workgroup of 64 invocations a row of blocks.
struct Uniforms {
  query_length: u32,
  query_offset: i32,
  block_q: u32,
  block_k: u32,
  query_blocks: u32,
  key_blocks: u32,
  words: u32,
  query_heads: u32,
  first_p: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> top_p: array<f32>;
@group(0) @binding(3) var<storage, read_write> plan: array<u32>;

const NOTHING = 0xffffffffu; // above the bits of every weight

var<workgroup> partial: array<f32, 64>;
var<workgroup> tie_counts: array<u32, 64>;

fn visible_blocks(a: u32) -> u32 {
  let last_key = i32(min((a + 1u) * u.block_q, u.query_length)) - 1 + u.query_offset;
  return select(0u, min(u32(max(last_key, 0)) / u.block_k + 1u, u.key_blocks), last_key >= 0);
}

// Bits of a weight; NaN and negative numbers become 0.
fn weight_bits(index: u32) -> u32 {
  let bits = bitcast<u32>(weights[index]);
  return select(bits, 0u, bits > 0x7f800000u);
}

fn is_forced(row: u32, c: u32) -> bool {
  return ((plan[row * u.words + c / 32u] >> (c & 31u)) & 1u) == 1u;
}

// The sum over all invocations, in a fixed order.
fn workgroup_sum(local: u32, value: f32) -> f32 {
  workgroupBarrier();
  partial[local] = value;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 64u; i++) { sum += partial[i]; }
  return sum;
}

// Weight of the row's blocks that are not forced and whose bits are above the cut.
fn sum_above(row: u32, visible: u32, local: u32, cut: u32) -> f32 {
  var sum = 0.0;
  for (var c = local; c < visible; c += 64u) {
    let bits = weight_bits(row * u.key_blocks + c);
    if (bits > cut && !is_forced(row, c)) { sum += bitcast<f32>(bits); }
  }
  return workgroup_sum(local, sum);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = workgroup.y * u.query_blocks + workgroup.x;
  let visible = visible_blocks(workgroup.x);
  let p = top_p[u.first_p + workgroup.y % u.query_heads];

  var forced = 0.0;
  for (var c = local; c < visible; c += 64u) {
    if (is_forced(row, c)) { forced += bitcast<f32>(weight_bits(row * u.key_blocks + c)); }
  }
  let forced_sum = workgroup_sum(local, forced);
  let total = forced_sum + sum_above(row, visible, local, 0u);
  let wanted = p * total;
  let keep_all = p >= 1.0 || total == 0.0;

  // The lowest cut with forced_sum + sum_above(cut) < wanted: blocks above it are kept, blocks at it while there is room.
  var low = 0u;
  var high = 0x7f800000u;
  for (var i = 0u; i < 31u; i++) {
    let middle = (low + high) / 2u;
    let below = forced_sum + sum_above(row, visible, local, middle) < wanted;
    if (low < high) {
      if (below) { high = middle; } else { low = middle + 1u; }
    }
  }
  // When the forced blocks alone reach p, there is no such cut.
  let cut = select(low, NOTHING, forced_sum >= wanted);
  let before_ties = forced_sum + sum_above(row, visible, local, cut);

  // Pack: a word an invocation, 64 words at a time. A tie is kept while the sum before it is below p.
  var ties_before = 0u;
  for (var first = 0u; first < u.words; first += 64u) {
    let word = first + local;
    let end = min((word + 1u) * 32u, visible);
    var ties = 0u;
    for (var c = word * 32u; c < end; c++) {
      if (weight_bits(row * u.key_blocks + c) == cut && !is_forced(row, c)) { ties++; }
    }
    workgroupBarrier();
    tie_counts[local] = ties;
    workgroupBarrier();
    var tie = ties_before;
    for (var i = 0u; i < 64u; i++) {
      if (i < local) { tie += tie_counts[i]; }
      ties_before += tie_counts[i];
    }
    if (word < u.words) {
      var bits = plan[row * u.words + word];
      for (var c = word * 32u; c < end; c++) {
        let weight = weight_bits(row * u.key_blocks + c);
        var kept = keep_all || (weight > cut && cut != NOTHING);
        if (weight == cut && !is_forced(row, c)) {
          kept = kept || before_ties + f32(tie) * bitcast<f32>(weight) < wanted;
          tie++;
        }
        if (kept) { bits |= 1u << (c & 31u); }
      }
      plan[row * u.words + word] = bits;
    }
  }
}
