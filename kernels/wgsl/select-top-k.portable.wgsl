// Top-k over block scores: adds to each row's forced blocks those of largest score until it holds k, forced ones
// included. Ties go to the lower index; rows with at most k visible blocks keep them all.
//
// scores f32 [heads, rows, key_blocks] of query blocks first_row … first_row + rows, any sign; NaN counts as −∞.
// plan u32[heads, query_blocks, words]: on entry the forced blocks, on return the selection.
//
// No sort: scores become u32 keys of the same order, and the key at the cut is found by bisection, 32 steps, each a count
// over the row. One workgroup of 64 invocations a row of blocks.
struct Uniforms {
  query_length: u32,
  query_offset: i32,
  block_q: u32,
  block_k: u32,
  query_blocks: u32,
  key_blocks: u32,
  words: u32,
  top_k: u32,
  first_row: u32,
  rows: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<u32>; // bits of f32, so that NaN and −0 arrive as they are
@group(0) @binding(2) var<storage, read_write> plan: array<u32>;

const NOTHING = 0xffffffffu; // above the key of every score

var<workgroup> partial: array<u32, 64>;
var<workgroup> tie_counts: array<u32, 64>;

fn visible_blocks(a: u32) -> u32 {
  let last_key = i32(min((a + 1u) * u.block_q, u.query_length)) - 1 + u.query_offset;
  return select(0u, min(u32(max(last_key, 0)) / u.block_k + 1u, u.key_blocks), last_key >= 0);
}

// Orders as the numbers do: the bits of negative ones fall as they rise, so they are inverted. −0 is 0, NaN counts as −∞.
fn sort_key(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude == 0u) { return 0x80000000u; }
  if (magnitude > 0x7f800000u) { return ~0xff800000u; }
  return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
}

fn is_forced(row: u32, c: u32) -> bool {
  return ((plan[row * u.words + c / 32u] >> (c & 31u)) & 1u) == 1u;
}

// The sum over all invocations, in a fixed order.
fn workgroup_sum(local: u32, value: u32) -> u32 {
  workgroupBarrier();
  partial[local] = value;
  workgroupBarrier();
  var sum = 0u;
  for (var i = 0u; i < 64u; i++) { sum += partial[i]; }
  return sum;
}

// How many of the row's blocks are not forced and have keys above the cut.
fn count_above(row: u32, first_score: u32, visible: u32, local: u32, cut: u32) -> u32 {
  var count = 0u;
  for (var c = local; c < visible; c += 64u) {
    if (sort_key(scores[first_score + c]) > cut && !is_forced(row, c)) { count++; }
  }
  return workgroup_sum(local, count);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let a = u.first_row + workgroup.x;
  let row = workgroup.y * u.query_blocks + a;
  let first_score = (workgroup.y * u.rows + workgroup.x) * u.key_blocks;
  let visible = visible_blocks(a);

  var forced = 0u;
  for (var word = local; word < u.words; word += 64u) { forced += countOneBits(plan[row * u.words + word]); }
  let room = u.top_k - min(workgroup_sum(local, forced), u.top_k);

  // The lowest cut with fewer blocks above it than there is room for: they are kept, blocks at it while there is room.
  // Without room there is none, and the search ends at NOTHING.
  var low = 0u;
  var high = NOTHING;
  for (var i = 0u; i < 32u; i++) {
    let middle = low + (high - low) / 2u;
    let below = count_above(row, first_score, visible, local, middle) < room;
    if (low < high) {
      if (below) { high = middle; } else { low = middle + 1u; }
    }
  }
  let cut = low;
  let before_ties = count_above(row, first_score, visible, local, cut);

  // Pack: a word an invocation, 64 words at a time.
  var ties_before = 0u;
  for (var first = 0u; first < u.words; first += 64u) {
    let word = first + local;
    let end = min((word + 1u) * 32u, visible);
    var ties = 0u;
    for (var c = word * 32u; c < end; c++) {
      if (sort_key(scores[first_score + c]) == cut && !is_forced(row, c)) { ties++; }
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
        let key = sort_key(scores[first_score + c]);
        var kept = key > cut;
        if (key == cut && !is_forced(row, c)) {
          kept = kept || before_ties + tie < room;
          tie++;
        }
        if (kept) { bits |= 1u << (c & 31u); }
      }
      plan[row * u.words + word] = bits;
    }
  }
}
