enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;

// Flash attention forward over a block plan or none, causal (bottom-right):
// out = softmax(scale · q kᵀ) v, and the LSE of each row. FlashAttention-2 (arXiv 2307.08691), Algorithm 1:
// f32 math, f16 storage, head_dim 64.
//
// Axes: B batch, Hq and Hkv query and KV heads, Lq and Lk query and key length, D head_dim.
// q, out [B, Hq, Lq, D] and k, v [B, Hkv, Lk, D] f16, strided, read and written 16 bytes at a time.
// lse [B, Hq, Lq] f32 bits, natural log, −∞ (0xff800000) for rows that see no key.
// The plan's arrays are those of core's plan.ts.
//
// A workgroup computes 128 query rows of one head, each of its 4 subgroups 32 of them, on subgroup matrices of
// 16×16×16: f16 operands, f32 results. It advances 16 keys at a time.
struct Uniforms {
  q_offset: u32,
  q_batch_stride: u32,
  q_head_stride: u32,
  q_row_stride: u32,
  k_offset: u32,
  k_batch_stride: u32,
  k_head_stride: u32,
  k_row_stride: u32,
  v_offset: u32,
  v_batch_stride: u32,
  v_head_stride: u32,
  v_row_stride: u32,
  query_heads: u32,
  group_size: u32,
  query_length: u32,
  key_length: u32,
  query_offset: i32,
  scale: f32,
  dense: u32,
  out_offset: u32,
  out_batch_stride: u32,
  out_head_stride: u32,
  out_row_stride: u32,
  first_row_block: u32,
  row_blocks: u32,
  plan_heads: u32,
  plan_block_q: u32,
  plan_block_k: u32,
  plan_rows: u32,
  plan_words: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> lse: array<u32>;
@group(0) @binding(6) var<storage, read> plan: array<u32>;
@group(0) @binding(7) var<storage, read> pieces: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read_write> parts: array<vec4<u32>>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

const KEYS = 16u; // of a tile
const LANES = 32u; // of a subgroup
const LANES_PER_ROW = 1u;
const ROWS = 128u;
const UNITS = 8u; // 16-byte units of one row in memory
const TILE_UNITS = 128u;
const TILE_PITCH = 9u; // units from row to row of a tile: odd, which spreads rows over the memory banks
const SCORE_PITCH = 5u;
const NONE = 0x80000000u;
const OUTGROWN = 3u; // of the flags: weights of some row would no longer fit f16

var<workgroup> k_tile: array<vec4<u32>, 144>;
var<workgroup> v_tile: array<vec4<u32>, 144>;
var<workgroup> scores: array<array<vec4<u32>, 160>, 4>; // f32 [row][key]; then f16 weights
var<workgroup> flags: array<atomic<u32>, 4>; // 16 bytes, as all else is multiples of: matrices must be aligned

struct Walk {
  tile: u32, // its first key
  span_end: u32,
  word: u32, // of the plan's row, the next one to read
  bits: u32, // blocks left of the word before
}

const END = Walk(NONE, 0u, 0u, 0u);

fn next_tile(present: Walk, plan_row: u32, block_end: u32) -> Walk {
  var walk = present;
  walk.tile += KEYS;
  while (walk.tile >= walk.span_end) {
    while (walk.bits == 0u) {
      if (walk.word == u.plan_words) { return END; }
      walk.bits = plan[plan_row * u.plan_words + walk.word];
      walk.word++;
    }
    let block = (walk.word - 1u) * 32u + firstTrailingBit(walk.bits);
    walk.bits &= walk.bits - 1u;
    walk.tile = block * u.plan_block_k;
    walk.span_end = min(walk.tile + u.plan_block_k, block_end);
    if (walk.tile >= block_end) { return END; }
  }
  return walk;
}

fn pack(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
}

// All bits of those halves of a unit that are NaN or ±∞: their exponent is all ones.
fn not_finite(unit: vec4<u32>) -> vec4<u32> {
  let carries = ((unit & vec4<u32>(0x7fff7fff)) + vec4<u32>(0x04000400)) & vec4<u32>(0x80008000);
  return (carries >> vec4<u32>(15)) * 0xffffu;
}

fn query_unit(at: u32, live: bool, sign: u32) -> vec4<u32> {
  var unit = vec4<u32>();
  if (live) { unit = q[at] ^ vec4<u32>(sign); }
  return unit;
}

// Rounded weights may sum to more than exact ones: that must not make a value infinite that f16 holds.
fn in_range(x: vec4<f32>) -> vec4<f32> {
  return select(x, clamp(x, vec4<f32>(-65504.0), vec4<f32>(65504.0)), abs(x) < vec4<f32>(131072.0));
}

fn output_unit(a: vec4<f32>, b: vec4<f32>, inverse: f32) -> vec4<u32> {
  return pack(in_range(a * inverse), in_range(b * inverse));
}

@compute @workgroup_size(128)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let piece = pieces[u.first_row_block + workgroup.x]; // row of blocks, first block, end block, slot
  if (piece.x == 0xffffffffu) { return; }
  let row_block = piece.x % u.row_blocks;
  let head = piece.x / u.row_blocks % u.query_heads;
  let batch = piece.x / u.row_blocks / u.query_heads;
  let kv_head = head / u.group_size;
  let first_row = row_block * 128u;
  let end_row = min(first_row + 128u, u.query_length);
  let plan_row = (batch * u.plan_heads + head * u.plan_heads / u.query_heads) * u.plan_rows + first_row / u.plan_block_q;

  // This lane's row, and which 16 of a tile's 16 scores it turns into weights.
  let row = first_row + local / LANES_PER_ROW;
  let part = local % LANES_PER_ROW;
  let live = row < end_row;
  let score_row = local % LANES / LANES_PER_ROW * SCORE_PITCH;
  let score_at = score_row + part * 4u;
  let weight_at = local % LANES / LANES_PER_ROW * 5u + 0u + part * 2u;

  // Keys before these ends are visible: to this row, to every row of the workgroup, to some row.
  let row_end = u32(clamp(i32(row) + u.query_offset + 1, 0, i32(u.key_length)));
  let full_end = u32(clamp(i32(first_row) + u.query_offset + 1, 0, i32(u.key_length)));
  let block_end = min(u32(clamp(i32(end_row - 1u) + u.query_offset + 1, 0, i32(u.key_length))), piece.z * u.plan_block_k);

  // A negative scale turns the signs of q, so that the largest product has the largest score. At a scale of 0 every score
  // is still 0 in f32, but that of keys that a row does not see must stay far below.
  let scale = max(abs(u.scale), 1.0e-30);
  let sign = select(0u, 0x80008000u, u.scale < 0.0);
  let unseen = -1.0e30 / max(scale, 1.0e-8);

  let q_row = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row * u.q_row_stride;
  let k_head = u.k_offset + batch * u.k_batch_stride + kv_head * u.k_head_stride;
  let v_head = u.v_offset + batch * u.v_batch_stride + kv_head * u.v_head_stride;
  scores[local / LANES][score_row + part * 4u + 0u] = query_unit(q_row + 0u + part * 4u + 0u, live, sign);
  scores[local / LANES][score_row + part * 4u + 1u] = query_unit(q_row + 0u + part * 4u + 1u, live, sign);
  scores[local / LANES][score_row + part * 4u + 2u] = query_unit(q_row + 0u + part * 4u + 2u, live, sign);
  scores[local / LANES][score_row + part * 4u + 3u] = query_unit(q_row + 0u + part * 4u + 3u, live, sign);
  workgroupBarrier();
  let q_0_0 = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 0u, 5u);
  let q_1_0 = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 80u, 5u);
  let q_0_1 = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 2u, 5u);
  let q_1_1 = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 82u, 5u);
  workgroupBarrier();
  scores[local / LANES][score_row + part * 4u + 0u] = query_unit(q_row + 4u + part * 4u + 0u, live, sign);
  scores[local / LANES][score_row + part * 4u + 1u] = query_unit(q_row + 4u + part * 4u + 1u, live, sign);
  scores[local / LANES][score_row + part * 4u + 2u] = query_unit(q_row + 4u + part * 4u + 2u, live, sign);
  scores[local / LANES][score_row + part * 4u + 3u] = query_unit(q_row + 4u + part * 4u + 3u, live, sign);
  workgroupBarrier();
  let q_0_2 = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 0u, 5u);
  let q_1_2 = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 80u, 5u);
  let q_0_3 = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 2u, 5u);
  let q_1_3 = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 82u, 5u);
  workgroupBarrier();

  let tile_unit_0 = local + 0u;
  let key_in_tile_0 = tile_unit_0 / UNITS;
  let unit_in_row_0 = tile_unit_0 % UNITS;
  let lane_key_0 = key_in_tile_0;
  let k_lane_0 = k_head + lane_key_0 * u.k_row_stride + unit_in_row_0;
  let v_lane_0 = v_head + lane_key_0 * u.v_row_stride + unit_in_row_0;
  let at_0 = key_in_tile_0 * TILE_PITCH + unit_in_row_0;
  var o_0_0 = Result();
  var o_1_0 = Result();
  var o_0_1 = Result();
  var o_1_1 = Result();
  var o_0_2 = Result();
  var o_1_2 = Result();
  var o_0_3 = Result();
  var o_1_3 = Result();
  var reference = 0.5 * unseen; // below the score of any key, above that of unseen ones
  var row_sum = 0.0;
  var row_tainted = false;

  let first_word = plan_row * u.plan_words + piece.y / 32u;
  let first_bits = plan[first_word] & (0xffffffffu << (piece.y % 32u));
  var walk = next_tile(Walk(0u, 0u, piece.y / 32u + 1u, first_bits), plan_row, block_end);
  {
    let step_0 = walk.tile;
    var k_unit_0 = vec4<u32>();
    if (step_0 + lane_key_0 < u.key_length) { k_unit_0 = k[k_lane_0 + step_0 * u.k_row_stride]; }
    var v_unit_0 = vec4<u32>();
    if (step_0 + lane_key_0 < u.key_length) { v_unit_0 = v[v_lane_0 + step_0 * u.v_row_stride]; }
    k_tile[at_0] = k_unit_0;
    if (walk.tile + KEYS > full_end) {
      // Rows that do not see a key multiply its values by 0, which NaN and ∞ would survive.
      let beyond_0 = not_finite(v_unit_0);
      if (any(beyond_0 != vec4<u32>())) { atomicOr(&flags[0], 1u << key_in_tile_0); }
      v_unit_0 &= ~beyond_0;
    }
    v_tile[at_0] = v_unit_0;
  }
  workgroupBarrier();
  while (walk.tile != NONE) {
    let now = walk;
    walk = next_tile(walk, plan_row, block_end);
    let step_0 = walk.tile;
    var k_unit_0 = vec4<u32>();
    if (step_0 + lane_key_0 < u.key_length) { k_unit_0 = k[k_lane_0 + step_0 * u.k_row_stride]; }
    var v_unit_0 = vec4<u32>();
    if (step_0 + lane_key_0 < u.key_length) { v_unit_0 = v[v_lane_0 + step_0 * u.v_row_stride]; }

    var s_0_0 = Result(); var s_1_0 = Result();
    {
      let keys = subgroupMatrixLoad<Right, col_major>(&k_tile, 0u, 9u);
      s_0_0 = subgroupMatrixMultiplyAccumulate(q_0_0, keys, s_0_0);
      s_1_0 = subgroupMatrixMultiplyAccumulate(q_1_0, keys, s_1_0);
    }
    {
      let keys = subgroupMatrixLoad<Right, col_major>(&k_tile, 2u, 9u);
      s_0_0 = subgroupMatrixMultiplyAccumulate(q_0_1, keys, s_0_0);
      s_1_0 = subgroupMatrixMultiplyAccumulate(q_1_1, keys, s_1_0);
    }
    {
      let keys = subgroupMatrixLoad<Right, col_major>(&k_tile, 4u, 9u);
      s_0_0 = subgroupMatrixMultiplyAccumulate(q_0_2, keys, s_0_0);
      s_1_0 = subgroupMatrixMultiplyAccumulate(q_1_2, keys, s_1_0);
    }
    {
      let keys = subgroupMatrixLoad<Right, col_major>(&k_tile, 6u, 9u);
      s_0_0 = subgroupMatrixMultiplyAccumulate(q_0_3, keys, s_0_0);
      s_1_0 = subgroupMatrixMultiplyAccumulate(q_1_3, keys, s_1_0);
    }
    subgroupMatrixStore<row_major>(&scores[subgroup], 0u, s_0_0, 5u);
    subgroupMatrixStore<row_major>(&scores[subgroup], 80u, s_1_0, 5u);
    workgroupBarrier();

    var x0 = bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]);
    var x1 = bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]);
    var x2 = bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]);
    var x3 = bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]);
    var seen = KEYS;
    if (now.tile + KEYS > full_end) { seen = min(max(row_end, now.tile) - now.tile, KEYS); }
    // The row sees a key whose values are not finite, and were taken out for the sake of other rows.
    if ((atomicLoad(&flags[0]) & ((1u << seen) - 1u)) != 0u) { row_tainted = true; }
    if (seen < KEYS) {
      let places = vec4<u32>(0u, 1u, 2u, 3u) + vec4<u32>(part * 16u);
      x0 = select(vec4<f32>(unseen), x0, places + vec4<u32>(0u) < vec4<u32>(seen));
      x1 = select(vec4<f32>(unseen), x1, places + vec4<u32>(4u) < vec4<u32>(seen));
      x2 = select(vec4<f32>(unseen), x2, places + vec4<u32>(8u) < vec4<u32>(seen));
      x3 = select(vec4<f32>(unseen), x3, places + vec4<u32>(12u) < vec4<u32>(seen));
    }
    let tops = max(max(max(x0, x1), x2), x3);
    var top = max(max(tops.x, tops.y), max(tops.z, tops.w));
    if ((top - reference) * scale > 15.0) {
      // A row without weights has nothing to rescale.
      if (row_sum == 0.0) { reference = top - 1.0 / scale; } else { atomicStore(&flags[OUTGROWN], 1u); }
    }
    var sum: f32;
    sum = 0.0;
    {
      let a = exp2((x0 - reference) * scale);
      let b = exp2((x1 - reference) * scale);
      let both = a + b;
      sum += (both.x + both.y) + (both.z + both.w);
      scores[local / LANES][weight_at + 0u] = pack(a, b);
    }
    {
      let a = exp2((x2 - reference) * scale);
      let b = exp2((x3 - reference) * scale);
      let both = a + b;
      sum += (both.x + both.y) + (both.z + both.w);
      scores[local / LANES][weight_at + 1u] = pack(a, b);
    }
    k_tile[at_0] = k_unit_0;

    // Rare. Waits for all weights and the next keys in any case.
    if (workgroupUniformLoad(&flags[OUTGROWN]) != 0u) {
      var rescale = 1.0;
      if ((top - reference) * scale > 15.0) {
        let moved = top - 1.0 / scale;
        rescale = exp2(max((reference - moved) * scale, -1000.0));
        reference = moved;
      }
      row_sum *= rescale;
      if (local == 0u) { atomicStore(&flags[OUTGROWN], 0u); }
      subgroupMatrixStore<row_major>(&scores[subgroup], 0u, o_0_0, 5u);
      subgroupMatrixStore<row_major>(&scores[subgroup], 80u, o_1_0, 5u);
      workgroupBarrier();
      scores[local / LANES][score_at + 0u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]) * rescale);
      scores[local / LANES][score_at + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]) * rescale);
      scores[local / LANES][score_at + 2u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]) * rescale);
      scores[local / LANES][score_at + 3u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]) * rescale);
      workgroupBarrier();
      o_0_0 = subgroupMatrixLoad<Result, row_major>(&scores[subgroup], 0u, 5u);
      o_1_0 = subgroupMatrixLoad<Result, row_major>(&scores[subgroup], 80u, 5u);
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&scores[subgroup], 0u, o_0_1, 5u);
      subgroupMatrixStore<row_major>(&scores[subgroup], 80u, o_1_1, 5u);
      workgroupBarrier();
      scores[local / LANES][score_at + 0u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]) * rescale);
      scores[local / LANES][score_at + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]) * rescale);
      scores[local / LANES][score_at + 2u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]) * rescale);
      scores[local / LANES][score_at + 3u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]) * rescale);
      workgroupBarrier();
      o_0_1 = subgroupMatrixLoad<Result, row_major>(&scores[subgroup], 0u, 5u);
      o_1_1 = subgroupMatrixLoad<Result, row_major>(&scores[subgroup], 80u, 5u);
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&scores[subgroup], 0u, o_0_2, 5u);
      subgroupMatrixStore<row_major>(&scores[subgroup], 80u, o_1_2, 5u);
      workgroupBarrier();
      scores[local / LANES][score_at + 0u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]) * rescale);
      scores[local / LANES][score_at + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]) * rescale);
      scores[local / LANES][score_at + 2u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]) * rescale);
      scores[local / LANES][score_at + 3u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]) * rescale);
      workgroupBarrier();
      o_0_2 = subgroupMatrixLoad<Result, row_major>(&scores[subgroup], 0u, 5u);
      o_1_2 = subgroupMatrixLoad<Result, row_major>(&scores[subgroup], 80u, 5u);
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&scores[subgroup], 0u, o_0_3, 5u);
      subgroupMatrixStore<row_major>(&scores[subgroup], 80u, o_1_3, 5u);
      workgroupBarrier();
      scores[local / LANES][score_at + 0u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]) * rescale);
      scores[local / LANES][score_at + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]) * rescale);
      scores[local / LANES][score_at + 2u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]) * rescale);
      scores[local / LANES][score_at + 3u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]) * rescale);
      workgroupBarrier();
      o_0_3 = subgroupMatrixLoad<Result, row_major>(&scores[subgroup], 0u, 5u);
      o_1_3 = subgroupMatrixLoad<Result, row_major>(&scores[subgroup], 80u, 5u);
      workgroupBarrier();
      sum = 0.0;
      {
        let a = exp2((x0 - reference) * scale);
        let b = exp2((x1 - reference) * scale);
        let both = a + b;
        sum += (both.x + both.y) + (both.z + both.w);
        scores[local / LANES][weight_at + 0u] = pack(a, b);
      }
      {
        let a = exp2((x2 - reference) * scale);
        let b = exp2((x3 - reference) * scale);
        let both = a + b;
        sum += (both.x + both.y) + (both.z + both.w);
        scores[local / LANES][weight_at + 1u] = pack(a, b);
      }
      workgroupBarrier();
    }
    row_sum += sum;
    if (local == 0u) { atomicStore(&flags[0], 0u); }

    let p_0_0 = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 0u, 5u);
    let p_1_0 = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 80u, 5u);
    {
      let values = subgroupMatrixLoad<Right, row_major>(&v_tile, 0u, 9u);
      o_0_0 = subgroupMatrixMultiplyAccumulate(p_0_0, values, o_0_0);
      o_1_0 = subgroupMatrixMultiplyAccumulate(p_1_0, values, o_1_0);
    }
    {
      let values = subgroupMatrixLoad<Right, row_major>(&v_tile, 2u, 9u);
      o_0_1 = subgroupMatrixMultiplyAccumulate(p_0_0, values, o_0_1);
      o_1_1 = subgroupMatrixMultiplyAccumulate(p_1_0, values, o_1_1);
    }
    {
      let values = subgroupMatrixLoad<Right, row_major>(&v_tile, 4u, 9u);
      o_0_2 = subgroupMatrixMultiplyAccumulate(p_0_0, values, o_0_2);
      o_1_2 = subgroupMatrixMultiplyAccumulate(p_1_0, values, o_1_2);
    }
    {
      let values = subgroupMatrixLoad<Right, row_major>(&v_tile, 6u, 9u);
      o_0_3 = subgroupMatrixMultiplyAccumulate(p_0_0, values, o_0_3);
      o_1_3 = subgroupMatrixMultiplyAccumulate(p_1_0, values, o_1_3);
    }
    workgroupBarrier();
    if (walk.tile + KEYS > full_end) {
      // Rows that do not see a key multiply its values by 0, which NaN and ∞ would survive.
      let beyond_0 = not_finite(v_unit_0);
      if (any(beyond_0 != vec4<u32>())) { atomicOr(&flags[0], 1u << key_in_tile_0); }
      v_unit_0 &= ~beyond_0;
    }
    v_tile[at_0] = v_unit_0;
  }

  let empty = row_sum == 0.0;
  var inverse = select(1.0 / row_sum, 0.0, empty);
  if (row_tainted) { inverse = bitcast<f32>(0x7fc00000u | (local & 1u)); }
  let natural = (reference * scale + log2(row_sum)) * 0.6931471805599453;
  let lse_bits = select(bitcast<u32>(natural), 0xff800000u, empty);
  let whole = piece.w == 0u;
  let out_row = u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row * u.out_row_stride;
  let part_row = ((piece.w - 1u) * ROWS + row - first_row) * (UNITS + 1u);
  subgroupMatrixStore<row_major>(&scores[subgroup], 0u, o_0_0, 5u);
  subgroupMatrixStore<row_major>(&scores[subgroup], 80u, o_1_0, 5u);
  workgroupBarrier();
  if (live) {
    if (whole) { out[out_row + 0u + part * 2u + 0u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]), inverse); } else { parts[part_row + 0u + part * 2u + 0u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]), inverse); }
    if (whole) { out[out_row + 0u + part * 2u + 1u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]), inverse); } else { parts[part_row + 0u + part * 2u + 1u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]), inverse); }
  }
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores[subgroup], 0u, o_0_1, 5u);
  subgroupMatrixStore<row_major>(&scores[subgroup], 80u, o_1_1, 5u);
  workgroupBarrier();
  if (live) {
    if (whole) { out[out_row + 2u + part * 2u + 0u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]), inverse); } else { parts[part_row + 2u + part * 2u + 0u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]), inverse); }
    if (whole) { out[out_row + 2u + part * 2u + 1u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]), inverse); } else { parts[part_row + 2u + part * 2u + 1u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]), inverse); }
  }
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores[subgroup], 0u, o_0_2, 5u);
  subgroupMatrixStore<row_major>(&scores[subgroup], 80u, o_1_2, 5u);
  workgroupBarrier();
  if (live) {
    if (whole) { out[out_row + 4u + part * 2u + 0u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]), inverse); } else { parts[part_row + 4u + part * 2u + 0u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]), inverse); }
    if (whole) { out[out_row + 4u + part * 2u + 1u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]), inverse); } else { parts[part_row + 4u + part * 2u + 1u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]), inverse); }
  }
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores[subgroup], 0u, o_0_3, 5u);
  subgroupMatrixStore<row_major>(&scores[subgroup], 80u, o_1_3, 5u);
  workgroupBarrier();
  if (live) {
    if (whole) { out[out_row + 6u + part * 2u + 0u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]), inverse); } else { parts[part_row + 6u + part * 2u + 0u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 0u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 1u]), inverse); }
    if (whole) { out[out_row + 6u + part * 2u + 1u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]), inverse); } else { parts[part_row + 6u + part * 2u + 1u] = output_unit(bitcast<vec4<f32>>(scores[local / LANES][score_at + 2u]), bitcast<vec4<f32>>(scores[local / LANES][score_at + 3u]), inverse); }
  }
  workgroupBarrier();
  if (live && part == 0u) { if (whole) { lse[(batch * u.query_heads + head) * u.query_length + row] = lse_bits; } else { parts[part_row + UNITS] = vec4<u32>(lse_bits, 0u, 0u, 0u); } }
}
