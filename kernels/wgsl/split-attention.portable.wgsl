// Attention of few query rows over many keys, first pass: each workgroup attends over a span of the keys, and a
// second one merges the results. Flash-Decoding (Dao et al. 2023); causal (bottom-right), f16 storage, f32 math.
//
// Axes: B batch, Hq and Hkv query and KV heads, Lq and Lk lengths, D = 64, P splits.
// q [B, Hq, Lq, D], k and v [B, Hkv, Lk, D] f16, strided; part_out f32 [P, B, Hq, Lq, D], part_statistics f32
// [P, B, Hq, Lq, 2]: a row's largest score in base 2, and the sum of its weights below that.
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
  span: u32,
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
const GROUPS = 16u;
const KEYS = 2u; // of a group, at a time
const ROWS = 4u;
const UNITS = 8u; // 16-byte units of a row
const PRODUCTS = 8u;
const VECTORS = 2u; // vec4 of a lane's units of a row

var<workgroup> products: array<f32, 1024>;
var<workgroup> sums: array<f32, 128>;
var<workgroup> merged: array<vec4<f32>, 256>;
var<workgroup> maxima: array<f32, 16>;
var<workgroup> sums_of_rows: array<f32, 16>;

// The key at a position of the lists, one behind another.
fn key_at(position: u32, first: u32, list_row: u32) -> u32 {
  if (u.dense == 1u) { return position; }
  if (position < first) { return indices[list_row * u.capacity_0 + position / u.width_0] + position % u.width_0; }
  let rest = position - first;
  let list = u.batch * u.list_heads * u.capacity_0 + list_row * u.capacity_1;
  return indices[list + rest / u.width_1] + rest % u.width_1;
}

// Where a key of a sequence lies in k and v.
fn row_of(key: u32, batch: u32) -> u32 {
  return key;
}

// The sum of the groups' accumulators of one row, by their maxima.
fn write_row(batch: u32, list_head: u32, row: u32, split: u32, local: u32) {
  if (row >= u.heads_per_list * u.query_length) { return; }
  var largest = -3.4028234e38;
  for (var i = 0u; i < GROUPS; i++) { largest = max(largest, maxima[i]); }
  var sum = 0.0;
  for (var i = 0u; i < GROUPS; i++) { sum += sums_of_rows[i] * exp2(max(maxima[i] - largest, -1000.0)); }
  let empty = sum == 0.0;
  let head = list_head * u.heads_per_list + row / u.query_length;
  let at = ((split * u.batch + batch) * u.query_heads + head) * u.query_length + row % u.query_length;
  if (local < LANES_PER_KEY) {
    for (var i = 0u; i < VECTORS; i++) {
      let unit = local + i / 2u * LANES_PER_KEY;
      if (unit >= UNITS) { continue; }
      var total = vec4<f32>();
      for (var g = 0u; g < GROUPS; g++) {
        total += merged[i * LANES + g * LANES_PER_KEY + local] * exp2(max(maxima[g] - largest, -1000.0));
      }
      part_out[(at * UNITS + unit) * 2u + i % 2u] = total * select(1.0 / sum, 0.0, empty);
    }
  }
  if (local == 0u) { part_statistics[at] = vec2<f32>(largest, sum); }
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let list_head = workgroup.y;
  let batch = workgroup.z / u.row_chunks;
  let first_row = workgroup.z % u.row_chunks * ROWS;
  let kv_head = list_head * u.heads_per_list / u.group_size;
  let lane = local % LANES_PER_KEY;
  let group = local / LANES_PER_KEY;
  let k_head = u.k_offset + batch * u.k_batch_stride + kv_head * u.k_head_stride;
  let v_head = u.v_offset + batch * u.v_batch_stride + kv_head * u.v_head_stride;

  let list_row = batch * u.list_heads + list_head;
  let key_length = u.key_length;
  var first = key_length;
  var positions = key_length;
  if (u.dense == 0u) {
    first = u.width_0 * min(counts[list_row], u.capacity_0);
    positions = first;
    if (u.lists > 1u) { positions += u.width_1 * min(counts[u.batch * u.list_heads + list_row], u.capacity_1); }
  }
  let start = min(workgroup.x * u.span, positions);
  let end = min(start + u.span, positions);

  var query: array<vec4<f32>, ROWS * VECTORS>;
  var acc: array<vec4<f32>, ROWS * VECTORS>;
  var row_end: array<u32, ROWS>; // keys before it are visible
  var row_max: array<f32, ROWS>;
  var row_sum: array<f32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    row_max[r] = -3.4028234e38;
    if (first_row + r < u.heads_per_list * u.query_length) {
      let head = list_head * u.heads_per_list + (first_row + r) / u.query_length;
      let row = (first_row + r) % u.query_length;
      row_end[r] = u32(clamp(i32(row + 1u + key_length) - i32(u.query_length), 0, i32(key_length)));
      let at = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row * u.q_row_stride + lane;
      if (lane + 0u < UNITS) {
        let unit = q[at + 0u];
        query[r * VECTORS + 0u] = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
        query[r * VECTORS + 1u] = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
      }
    }
  }
  for (var i = 0u; i < ROWS * VECTORS; i++) { query[i] *= u.scale; }

  for (var step = start; step < end; step += GROUPS * KEYS) {
    var keys: array<u32, KEYS>;
    var key_rows: array<u32, KEYS>;
    var inside: array<bool, KEYS>;
    var k_row: array<vec4<f32>, KEYS * VECTORS>;
    var v_row: array<vec4<f32>, KEYS * VECTORS>;
    for (var j = 0u; j < KEYS; j++) {
      let position = step + group * KEYS + j;
      if (position < end) { keys[j] = key_at(position, first, list_row); }
      inside[j] = position < end && keys[j] < key_length;
      keys[j] = select(0u, keys[j], inside[j]);
      key_rows[j] = row_of(keys[j], batch);
    }
    for (var j = 0u; j < KEYS; j++) {
      let unit0 = k[k_head + key_rows[j] * u.k_row_stride + min(lane + 0u, UNITS - 1u)];
      k_row[j * VECTORS + 0u] = vec4<f32>(unpack2x16float(unit0.x), unpack2x16float(unit0.y));
      k_row[j * VECTORS + 1u] = vec4<f32>(unpack2x16float(unit0.z), unpack2x16float(unit0.w));
      if (!inside[j] || lane + 0u >= UNITS) { k_row[j * VECTORS + 0u] = vec4<f32>(); k_row[j * VECTORS + 1u] = vec4<f32>(); }
    }
    var scores: array<f32, PRODUCTS>;
    for (var j = 0u; j < KEYS; j++) {
      for (var r = 0u; r < ROWS; r++) {
        var score = 0.0;
        for (var i = 0u; i < VECTORS; i++) { score += dot(query[r * VECTORS + i], k_row[j * VECTORS + i]); }
        scores[j * ROWS + r] = score;
      }
    }
    workgroupBarrier();
    for (var product = 0u; product < PRODUCTS; product++) { products[product * LANES + local] = scores[product]; }
    workgroupBarrier();
    for (var product = lane; product < PRODUCTS; product += LANES_PER_KEY) {
      var sum = 0.0;
      for (var i = 0u; i < LANES_PER_KEY; i++) { sum += products[product * LANES + group * LANES_PER_KEY + i]; }
      sums[group * PRODUCTS + product] = sum;
    }
    workgroupBarrier();
    for (var product = 0u; product < PRODUCTS; product++) { scores[product] = sums[group * PRODUCTS + product]; }
    for (var j = 0u; j < KEYS; j++) {
      let value0 = v[v_head + key_rows[j] * u.v_row_stride + min(lane + 0u, UNITS - 1u)];
      v_row[j * VECTORS + 0u] = vec4<f32>(unpack2x16float(value0.x), unpack2x16float(value0.y));
      v_row[j * VECTORS + 1u] = vec4<f32>(unpack2x16float(value0.z), unpack2x16float(value0.w));
      if (!inside[j] || lane + 0u >= UNITS) { v_row[j * VECTORS + 0u] = vec4<f32>(); v_row[j * VECTORS + 1u] = vec4<f32>(); }
    }
    for (var r = 0u; r < ROWS; r++) {
      var top = -3.4028234e38;
      for (var j = 0u; j < KEYS; j++) {
        if (inside[j] && keys[j] < row_end[r]) { top = max(top, scores[j * ROWS + r]); }
      }
      if (top > row_max[r]) {
        // The difference may overflow on huge logits; any number below −126 gives the same 0.
        let rescale = exp2(max(row_max[r] - top, -1000.0));
        row_max[r] = top;
        row_sum[r] *= rescale;
        for (var i = 0u; i < VECTORS; i++) { acc[r * VECTORS + i] *= rescale; }
      }
      for (var j = 0u; j < KEYS; j++) {
        // A key that this row does not see adds nothing, also where its value is NaN.
        if (inside[j] && keys[j] < row_end[r]) {
          let weight = exp2(scores[j * ROWS + r] - row_max[r]);
          row_sum[r] += weight;
          for (var i = 0u; i < VECTORS; i++) { acc[r * VECTORS + i] += weight * v_row[j * VECTORS + i]; }
        }
      }
    }
  }
  for (var r = 0u; r < ROWS; r++) {
    workgroupBarrier();
    if (lane == 0u) {
      maxima[group] = row_max[r];
      sums_of_rows[group] = row_sum[r];
    }
    for (var i = 0u; i < VECTORS; i++) { merged[i * LANES + local] = acc[r * VECTORS + i]; }
    workgroupBarrier();
    write_row(batch, list_head, first_row + r, workgroup.x, local);
  }
}
