// Attention of few query rows over many keys, first pass: each workgroup attends over a span of the keys, and a
// second one merges the results. Flash-Decoding (Dao et al. 2023); causal (bottom-right), f16 storage, f32 math.
//
// Axes: B batch, Hq and Hkv query and KV heads, Lq = 1 and Lk lengths, D = 64, P splits.
// q [B, Hq, Lq, D], k and v [B, Hkv, Lk, D] f16, strided; part_out f32 [P, B, Hq, Lq, D], part_statistics f32
// [P, B, Hq, Lq, 2]: a row's largest score in base 2, and the sum of its weights below that, 0 in a part without a key:
// the output of such a part is not written.
// counts and indices: the lists of a stripe plan with one block of queries.
//
// Workgroup (split, list head, batch · row chunk): 16 groups of 8 lanes. A group takes 2 keys at a time, a lane 1 of
// their 16-byte units, for 4 query rows that share the keys.
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
  heads_per_list: u32,
  row_chunks: u32,
  batch: u32,
  list_heads: u32,
  lists: u32,
  width_0: u32,
  capacity_0: u32,
  width_1: u32,
  capacity_1: u32,
  table_width: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read> indices: array<u32>;
@group(0) @binding(6) var<storage, read_write> part_out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> part_statistics: array<vec2<f32>>;

const LANES = 128u;
const LANES_PER_KEY = 8u;
const LANES_PER_SHARE = 8u; // of what meets in workgroup memory
const SHARES = 16u;
const GROUPS = 16u;
const KEYS = 2u; // of a group, at a time
const ROWS = 4u;
const UNITS = 8u; // 16-byte units of a row
const VECTORS = 16u; // vec4 of a row
const MIN_SPAN = 64u;
const NO_KEY = 0xffffffffu; // behind all that a row sees

var<workgroup> products: array<f32, KEYS * ROWS * LANES>;
var<workgroup> sums: array<f32, GROUPS * KEYS * ROWS>;
var<workgroup> merged: array<vec4<f32>, SHARES * VECTORS>;
var<workgroup> statistics: array<vec2<f32>, SHARES>;

// The key at a position of the lists, one behind another.
fn key_at(position: u32, first: u32, list_row: u32) -> u32 {
  if (u.dense == 1u) { return position; }
  if (position < first) { return indices[list_row * u.capacity_0 + position / u.width_0] + position % u.width_0; }
  let rest = position - first;
  let list = u.batch * u.list_heads * u.capacity_0 + list_row * u.capacity_1;
  return indices[list + rest / u.width_1] + rest % u.width_1;
}

// Where a row of a list head is written.
fn part_row(split: u32, batch: u32, list_head: u32, row: u32) -> u32 {
  let head = list_head * u.heads_per_list + row / u.query_length;
  return ((split * u.batch + batch) * u.query_heads + head) * u.query_length + row % u.query_length;
}

// The sum of what the workgroup has of one row.
fn write_row(split: u32, batch: u32, list_head: u32, row: u32, local: u32) {
  if (row >= u.heads_per_list * u.query_length) { return; }
  var largest = -3.4028234e38;
  for (var i = 0u; i < SHARES; i++) { largest = max(largest, statistics[i].x); }
  var sum = 0.0;
  for (var i = 0u; i < SHARES; i++) { sum += exp2(max(statistics[i].x - largest, -1000.0)) * statistics[i].y; }
  let inverse = select(1.0 / sum, 0.0, sum == 0.0);
  let at = part_row(split, batch, list_head, row);
  for (var vector = local; vector < VECTORS; vector += LANES) {
    var total = vec4<f32>();
    for (var i = 0u; i < SHARES; i++) {
      total += exp2(max(statistics[i].x - largest, -1000.0)) * merged[i * VECTORS + vector];
    }
    part_out[at * VECTORS + vector] = total * inverse;
  }
  if (local == 0u) { part_statistics[at] = vec2<f32>(largest, sum); }
}

@compute @workgroup_size(128)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let split = workgroup.x;
  let list_head = workgroup.y;
  let batch = workgroup.z / u.row_chunks;
  let first_row = workgroup.z % u.row_chunks * ROWS;
  let all_rows = u.heads_per_list * u.query_length;
  let list_row = batch * u.list_heads + list_head;
  let key_length = u.key_length;
  var first = key_length;
  var positions = key_length;
  if (u.dense == 0u) {
    first = u.width_0 * min(counts[list_row], u.capacity_0);
    positions = first;
    if (u.lists > 1u) { positions += u.width_1 * min(counts[u.batch * u.list_heads + list_row], u.capacity_1); }
  }
  // Splits share out what a list holds, not what it has room for.
  let span = max(MIN_SPAN, (positions + workgroups.x - 1u) / workgroups.x);
  let start = min(split * span, positions);
  let end = min(start + span, positions);
  if (start == end) {
    let row = first_row + local;
    if (local < ROWS && row < all_rows) {
      part_statistics[part_row(split, batch, list_head, row)] = vec2<f32>(-3.4028234e38, 0.0);
    }
    return;
  }

  let lane = local % LANES_PER_KEY;
  let group = local / LANES_PER_KEY;
  let kv_head = list_head * u.heads_per_list / u.group_size;
  let k_head = u.k_offset + batch * u.k_batch_stride + kv_head * u.k_head_stride;
  let v_head = u.v_offset + batch * u.v_batch_stride + kv_head * u.v_head_stride;
  var query_0_0 = vec4<f32>(); var query_0_1 = vec4<f32>(); var query_1_0 = vec4<f32>(); var query_1_1 = vec4<f32>(); var query_2_0 = vec4<f32>(); var query_2_1 = vec4<f32>(); var query_3_0 = vec4<f32>(); var query_3_1 = vec4<f32>();
  var acc_0_0 = vec4<f32>(); var acc_0_1 = vec4<f32>(); var acc_1_0 = vec4<f32>(); var acc_1_1 = vec4<f32>(); var acc_2_0 = vec4<f32>(); var acc_2_1 = vec4<f32>(); var acc_3_0 = vec4<f32>(); var acc_3_1 = vec4<f32>();
  var row_max_0 = f32(); var row_max_1 = f32(); var row_max_2 = f32(); var row_max_3 = f32();
  var row_sum_0 = f32(); var row_sum_1 = f32(); var row_sum_2 = f32(); var row_sum_3 = f32();
  row_max_0 = -3.4028234e38;
  row_max_1 = -3.4028234e38;
  row_max_2 = -3.4028234e38;
  row_max_3 = -3.4028234e38;
  if (first_row + 0u < all_rows) {
    let row = first_row + 0u;
    let head = list_head * u.heads_per_list + row / u.query_length;
    let at = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row % u.query_length * u.q_row_stride;
    
    let unit0 = q[at + lane];
    let part0 = vec4<f32>(unpack2x16float(unit0.x), unpack2x16float(unit0.y));
    let part1 = vec4<f32>(unpack2x16float(unit0.z), unpack2x16float(unit0.w));
    query_0_0 = u.scale * part0;
    query_0_1 = u.scale * part1;
  }
  if (first_row + 1u < all_rows) {
    let row = first_row + 1u;
    let head = list_head * u.heads_per_list + row / u.query_length;
    let at = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row % u.query_length * u.q_row_stride;
    
    let unit0 = q[at + lane];
    let part0 = vec4<f32>(unpack2x16float(unit0.x), unpack2x16float(unit0.y));
    let part1 = vec4<f32>(unpack2x16float(unit0.z), unpack2x16float(unit0.w));
    query_1_0 = u.scale * part0;
    query_1_1 = u.scale * part1;
  }
  if (first_row + 2u < all_rows) {
    let row = first_row + 2u;
    let head = list_head * u.heads_per_list + row / u.query_length;
    let at = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row % u.query_length * u.q_row_stride;
    
    let unit0 = q[at + lane];
    let part0 = vec4<f32>(unpack2x16float(unit0.x), unpack2x16float(unit0.y));
    let part1 = vec4<f32>(unpack2x16float(unit0.z), unpack2x16float(unit0.w));
    query_2_0 = u.scale * part0;
    query_2_1 = u.scale * part1;
  }
  if (first_row + 3u < all_rows) {
    let row = first_row + 3u;
    let head = list_head * u.heads_per_list + row / u.query_length;
    let at = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row % u.query_length * u.q_row_stride;
    
    let unit0 = q[at + lane];
    let part0 = vec4<f32>(unpack2x16float(unit0.x), unpack2x16float(unit0.y));
    let part1 = vec4<f32>(unpack2x16float(unit0.z), unpack2x16float(unit0.w));
    query_3_0 = u.scale * part0;
    query_3_1 = u.scale * part1;
  }

  for (var step = start; step < end; step += GROUPS * KEYS) {
    var key_0 = u32(); var key_1 = u32();
    var key_row_0 = u32(); var key_row_1 = u32();
    var inside_0 = bool(); var inside_1 = bool();
    var k_unit_0_0 = vec4<u32>(); var k_unit_1_0 = vec4<u32>();
    var v_unit_0_0 = vec4<u32>(); var v_unit_1_0 = vec4<u32>();
    var score_0_0 = f32(); var score_0_1 = f32(); var score_0_2 = f32(); var score_0_3 = f32(); var score_1_0 = f32(); var score_1_1 = f32(); var score_1_2 = f32(); var score_1_3 = f32();
    {
      let position = step + group * KEYS + 0u;
      var found = 0u;
      if (position < end) { found = key_at(position, first, list_row); }
      inside_0 = position < end && found < key_length;
      key_0 = select(NO_KEY, found, inside_0);
      key_row_0 = select(0u, found, inside_0);
    }
    {
      let position = step + group * KEYS + 1u;
      var found = 0u;
      if (position < end) { found = key_at(position, first, list_row); }
      inside_1 = position < end && found < key_length;
      key_1 = select(NO_KEY, found, inside_1);
      key_row_1 = select(0u, found, inside_1);
    }
    k_unit_0_0 = k[k_head + key_row_0 * u.k_row_stride + lane];
    v_unit_0_0 = select(vec4<u32>(), v[v_head + key_row_0 * u.v_row_stride + lane], inside_0);
    k_unit_1_0 = k[k_head + key_row_1 * u.k_row_stride + lane];
    v_unit_1_0 = select(vec4<u32>(), v[v_head + key_row_1 * u.v_row_stride + lane], inside_1);
    {
      let k0 = vec4<f32>(unpack2x16float(k_unit_0_0.x), unpack2x16float(k_unit_0_0.y));
      let k1 = vec4<f32>(unpack2x16float(k_unit_0_0.z), unpack2x16float(k_unit_0_0.w));
      score_0_0 = dot(query_0_0, k0) + dot(query_0_1, k1);
      score_0_1 = dot(query_1_0, k0) + dot(query_1_1, k1);
      score_0_2 = dot(query_2_0, k0) + dot(query_2_1, k1);
      score_0_3 = dot(query_3_0, k0) + dot(query_3_1, k1);
    }
    {
      let k0 = vec4<f32>(unpack2x16float(k_unit_1_0.x), unpack2x16float(k_unit_1_0.y));
      let k1 = vec4<f32>(unpack2x16float(k_unit_1_0.z), unpack2x16float(k_unit_1_0.w));
      score_1_0 = dot(query_0_0, k0) + dot(query_0_1, k1);
      score_1_1 = dot(query_1_0, k0) + dot(query_1_1, k1);
      score_1_2 = dot(query_2_0, k0) + dot(query_2_1, k1);
      score_1_3 = dot(query_3_0, k0) + dot(query_3_1, k1);
    }
    workgroupBarrier();
    products[(0u * ROWS + 0u) * LANES + local] = score_0_0;
    products[(0u * ROWS + 1u) * LANES + local] = score_0_1;
    products[(0u * ROWS + 2u) * LANES + local] = score_0_2;
    products[(0u * ROWS + 3u) * LANES + local] = score_0_3;
    products[(1u * ROWS + 0u) * LANES + local] = score_1_0;
    products[(1u * ROWS + 1u) * LANES + local] = score_1_1;
    products[(1u * ROWS + 2u) * LANES + local] = score_1_2;
    products[(1u * ROWS + 3u) * LANES + local] = score_1_3;
    workgroupBarrier();
    for (var product = lane; product < KEYS * ROWS; product += LANES_PER_KEY) {
      var sum = 0.0;
      for (var i = 0u; i < LANES_PER_KEY; i++) { sum += products[product * LANES + group * LANES_PER_KEY + i]; }
      sums[group * KEYS * ROWS + product] = sum;
    }
    workgroupBarrier();
    score_0_0 = sums[(group * KEYS + 0u) * ROWS + 0u];
    score_0_1 = sums[(group * KEYS + 0u) * ROWS + 1u];
    score_0_2 = sums[(group * KEYS + 0u) * ROWS + 2u];
    score_0_3 = sums[(group * KEYS + 0u) * ROWS + 3u];
    score_1_0 = sums[(group * KEYS + 1u) * ROWS + 0u];
    score_1_1 = sums[(group * KEYS + 1u) * ROWS + 1u];
    score_1_2 = sums[(group * KEYS + 1u) * ROWS + 2u];
    score_1_3 = sums[(group * KEYS + 1u) * ROWS + 3u];
    {
      var top = -3.4028234e38;
      if (inside_0) { top = max(top, score_0_0); }
    if (inside_1) { top = max(top, score_1_0); }
      if (top > row_max_0) {
        let rescale = exp2(max(row_max_0 - top, -1000.0));
        row_max_0 = top;
        row_sum_0 *= rescale;
        acc_0_0 *= rescale;
    acc_0_1 *= rescale;
      }
      score_0_0 = select(0.0, exp2(score_0_0 - row_max_0), inside_0);
    row_sum_0 += score_0_0;
    score_1_0 = select(0.0, exp2(score_1_0 - row_max_0), inside_1);
    row_sum_0 += score_1_0;
    }
    {
      var top = -3.4028234e38;
      if (inside_0) { top = max(top, score_0_1); }
    if (inside_1) { top = max(top, score_1_1); }
      if (top > row_max_1) {
        let rescale = exp2(max(row_max_1 - top, -1000.0));
        row_max_1 = top;
        row_sum_1 *= rescale;
        acc_1_0 *= rescale;
    acc_1_1 *= rescale;
      }
      score_0_1 = select(0.0, exp2(score_0_1 - row_max_1), inside_0);
    row_sum_1 += score_0_1;
    score_1_1 = select(0.0, exp2(score_1_1 - row_max_1), inside_1);
    row_sum_1 += score_1_1;
    }
    {
      var top = -3.4028234e38;
      if (inside_0) { top = max(top, score_0_2); }
    if (inside_1) { top = max(top, score_1_2); }
      if (top > row_max_2) {
        let rescale = exp2(max(row_max_2 - top, -1000.0));
        row_max_2 = top;
        row_sum_2 *= rescale;
        acc_2_0 *= rescale;
    acc_2_1 *= rescale;
      }
      score_0_2 = select(0.0, exp2(score_0_2 - row_max_2), inside_0);
    row_sum_2 += score_0_2;
    score_1_2 = select(0.0, exp2(score_1_2 - row_max_2), inside_1);
    row_sum_2 += score_1_2;
    }
    {
      var top = -3.4028234e38;
      if (inside_0) { top = max(top, score_0_3); }
    if (inside_1) { top = max(top, score_1_3); }
      if (top > row_max_3) {
        let rescale = exp2(max(row_max_3 - top, -1000.0));
        row_max_3 = top;
        row_sum_3 *= rescale;
        acc_3_0 *= rescale;
    acc_3_1 *= rescale;
      }
      score_0_3 = select(0.0, exp2(score_0_3 - row_max_3), inside_0);
    row_sum_3 += score_0_3;
    score_1_3 = select(0.0, exp2(score_1_3 - row_max_3), inside_1);
    row_sum_3 += score_1_3;
    }
    {
      let v0 = vec4<f32>(unpack2x16float(v_unit_0_0.x), unpack2x16float(v_unit_0_0.y));
      let v1 = vec4<f32>(unpack2x16float(v_unit_0_0.z), unpack2x16float(v_unit_0_0.w));
      acc_0_0 += score_0_0 * v0; acc_0_1 += score_0_0 * v1;
      acc_1_0 += score_0_1 * v0; acc_1_1 += score_0_1 * v1;
      acc_2_0 += score_0_2 * v0; acc_2_1 += score_0_2 * v1;
      acc_3_0 += score_0_3 * v0; acc_3_1 += score_0_3 * v1;
    }
    {
      let v0 = vec4<f32>(unpack2x16float(v_unit_1_0.x), unpack2x16float(v_unit_1_0.y));
      let v1 = vec4<f32>(unpack2x16float(v_unit_1_0.z), unpack2x16float(v_unit_1_0.w));
      acc_0_0 += score_1_0 * v0; acc_0_1 += score_1_0 * v1;
      acc_1_0 += score_1_1 * v0; acc_1_1 += score_1_1 * v1;
      acc_2_0 += score_1_2 * v0; acc_2_1 += score_1_2 * v1;
      acc_3_0 += score_1_3 * v0; acc_3_1 += score_1_3 * v1;
    }
  }
  
  {
    
    workgroupBarrier();
    if (local % LANES_PER_SHARE < LANES_PER_KEY) {
      let share = local / LANES_PER_SHARE;
      if (lane == 0u) { statistics[share] = vec2<f32>(row_max_0, row_sum_0); }
      merged[share * VECTORS + (lane) * 2u + 0u] = acc_0_0; merged[share * VECTORS + (lane) * 2u + 1u] = acc_0_1;
    }
    workgroupBarrier();
    write_row(split, batch, list_head, first_row + 0u, local);
  }
  {
    
    workgroupBarrier();
    if (local % LANES_PER_SHARE < LANES_PER_KEY) {
      let share = local / LANES_PER_SHARE;
      if (lane == 0u) { statistics[share] = vec2<f32>(row_max_1, row_sum_1); }
      merged[share * VECTORS + (lane) * 2u + 0u] = acc_1_0; merged[share * VECTORS + (lane) * 2u + 1u] = acc_1_1;
    }
    workgroupBarrier();
    write_row(split, batch, list_head, first_row + 1u, local);
  }
  {
    
    workgroupBarrier();
    if (local % LANES_PER_SHARE < LANES_PER_KEY) {
      let share = local / LANES_PER_SHARE;
      if (lane == 0u) { statistics[share] = vec2<f32>(row_max_2, row_sum_2); }
      merged[share * VECTORS + (lane) * 2u + 0u] = acc_2_0; merged[share * VECTORS + (lane) * 2u + 1u] = acc_2_1;
    }
    workgroupBarrier();
    write_row(split, batch, list_head, first_row + 2u, local);
  }
  {
    
    workgroupBarrier();
    if (local % LANES_PER_SHARE < LANES_PER_KEY) {
      let share = local / LANES_PER_SHARE;
      if (lane == 0u) { statistics[share] = vec2<f32>(row_max_3, row_sum_3); }
      merged[share * VECTORS + (lane) * 2u + 0u] = acc_3_0; merged[share * VECTORS + (lane) * 2u + 1u] = acc_3_1;
    }
    workgroupBarrier();
    write_row(split, batch, list_head, first_row + 3u, local);
  }
}
