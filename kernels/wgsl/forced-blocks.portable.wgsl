// Starts a block plan: the bits of the sink blocks, and of the blocks that hold one of the last local_window keys up to a
// query's own position, which itself is the diagonal. Never a block in which no pair is visible. plan u32[heads, query_blocks, words].
//
// One invocation a word: workgroups (words / 64, query_blocks, heads).
struct Uniforms {
  query_length: u32,
  query_offset: i32,
  block_q: u32,
  block_k: u32,
  query_blocks: u32,
  key_blocks: u32,
  words: u32,
  sink_blocks: u32,
  local_window: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> plan: array<u32>;

fn visible_blocks(a: u32) -> u32 {
  let last_key = i32(min((a + 1u) * u.block_q, u.query_length)) - 1 + u.query_offset;
  return select(0u, min(u32(max(last_key, 0)) / u.block_k + 1u, u.key_blocks), last_key >= 0);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let word = workgroup.x * 64u + local;
  let a = workgroup.y;
  if (word >= u.words) { return; }
  let visible = visible_blocks(a);
  // Positions of the block's own queries, as keys. Negative where queries come before the first key.
  let first_position = i32(a * u.block_q) + u.query_offset;
  let last_position = i32(min((a + 1u) * u.block_q, u.query_length)) - 1 + u.query_offset;
  let first_local = u32(max(first_position - i32(u.local_window) + 1, 0)) / u.block_k;
  let last_local = u32(max(last_position, 0)) / u.block_k;
  let has_local = u.local_window > 0u && last_position >= 0;
  var bits = 0u;
  for (var i = 0u; i < 32u; i++) {
    let c = word * 32u + i;
    let forced = c < u.sink_blocks || (has_local && c >= first_local && c <= last_local);
    if (forced && c < visible) { bits |= 1u << i; }
  }
  plan[(workgroup.z * u.query_blocks + a) * u.words + word] = bits;
}
