// Top-k over block scores: adds to each row's forced blocks those of largest score until it holds k, forced ones
// included. Ties go to the lower index; rows with at most k visible blocks keep them all.
//
// scores f32 [heads, rows, key_blocks] of query blocks first_row … first_row + rows, any sign; NaN counts as −∞.
// plan u32[heads, query_blocks, words]: on entry the forced blocks, on return the selection.
//
// No sort: scores become u32 keys of the same order, and the key at the cut is found digit by digit from the top, 8 bits a
// step, each a histogram of the keys that share the digits so far. One workgroup of 64 invocations a row of blocks.
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

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> counts: array<u32, 64>;
var<workgroup> digit_at_cut: u32;
var<workgroup> found_above: u32;
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

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let a = u.first_row + workgroup.x;
  let row = workgroup.y * u.query_blocks + a;
  let first_score = (workgroup.y * u.rows + workgroup.x) * u.key_blocks;
  let visible = visible_blocks(a);

  var forced = 0u;
  for (var word = local; word < u.words; word += 64u) { forced += countOneBits(plan[row * u.words + word]); }
  counts[local] = forced;
  workgroupBarrier();
  forced = 0u;
  for (var i = 0u; i < 64u; i++) { forced += counts[i]; }
  // Blocks to add: the others, as far as there is room.
  let wanted = min(u.top_k - min(forced, u.top_k), visible - min(forced, visible));

  // The key of the wanted-th of the others, and how many of them are above it.
  var cut = 0u;
  var above = 0u;
  for (var step = 0u; step < 4u; step++) {
    let shift = 24u - 8u * step;
    let known = select(0xffffffffu << (shift + 8u), 0u, step == 0u);
    for (var i = 0u; i < 4u; i++) { atomicStore(&bins[local * 4u + i], 0u); }
    workgroupBarrier();
    for (var c = local; c < visible; c += 64u) {
      let key = sort_key(scores[first_score + c]);
      if ((key & known) == cut && !is_forced(row, c)) { atomicAdd(&bins[(key >> shift) & 255u], 1u); }
    }
    workgroupBarrier();
    var own = 0u;
    for (var i = 0u; i < 4u; i++) { own += atomicLoad(&bins[local * 4u + i]); }
    counts[local] = own;
    workgroupBarrier();
    var reached = above;
    for (var i = local + 1u; i < 64u; i++) { reached += counts[i]; }
    for (var i = 4u; i > 0u; i--) {
      let digit = local * 4u + i - 1u;
      let count = atomicLoad(&bins[digit]);
      if (reached < wanted && reached + count >= wanted) {
        digit_at_cut = digit;
        found_above = reached;
      }
      reached += count;
    }
    workgroupBarrier();
    cut |= digit_at_cut << shift;
    above = found_above;
  }
  if (wanted == 0u) { cut = NOTHING; }

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
          kept = kept || above + tie < wanted;
          tie++;
        }
        if (kept) { bits |= 1u << (c & 31u); }
      }
      plan[row * u.words + word] = bits;
    }
  }
}
