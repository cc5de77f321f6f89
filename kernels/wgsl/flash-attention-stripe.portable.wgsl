// Flash attention forward over a stripe plan or none, causal (bottom-right):
// out = softmax(scale · q kᵀ) v, and the LSE of each row. FlashAttention-2 (arXiv 2307.08691), Algorithm 1:
// f32 math, f16 storage, head_dim 64.
//
// Axes: B batch, Hq and Hkv query and KV heads, Lq and Lk query and key length, D head_dim.
// q, out [B, Hq, Lq, D] and k, v [B, Hkv, Lk, D] f16, strided, read and written 16 bytes at a time.
// lse [B, Hq, Lq] f32 bits, natural log, −∞ (0xff800000) for rows that see no key.
// The plan's arrays are those of core's plan.ts.
//
// A workgroup computes 64 query rows of one head with 64 invocations, 1 for each row.
// Invocation (slice, row) holds 64 dimensions of its row's q and accumulator.
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
  plan_rows: u32,
  list_rows: u32,
  lists: u32,
  width_0: u32,
  capacity_0: u32,
  width_1: u32,
  capacity_1: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> lse: array<u32>;
@group(0) @binding(6) var<storage, read> counts: array<u32>;
@group(0) @binding(7) var<storage, read> indices: array<u32>;

const ROWS = 64u;
const TILE_KEYS = 16u;
const UNITS = 8u; // 16-byte units of one row in memory
const TILE_UNITS = 8u; // the same, padded to whole slices
const SLICE_UNITS = 8u;
const ROW_VEC4 = 16u; // vec4 of one row of a tile
const SLICE_VEC4 = 16u;

var<workgroup> k_tile: array<vec4<f32>, 256>;
var<workgroup> v_tile: array<vec4<f32>, 256>;
var<workgroup> tile_keys: array<u32, 16>; // ascending; past the end of a list 0xffffffff

fn visible_keys(row_end: u32) -> u32 {
  var visible = 0u;
  for (var j = 0u; j < TILE_KEYS; j++) { visible += u32(tile_keys[j] < row_end); }
  return visible;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.y;
  let batch = workgroup.z;
  let kv_head = head / u.group_size;
  // Late rows see the most keys under causality: they start first, so that no long row is left at the end.
  let row_block = u.first_row_block + u.row_blocks - 1u - workgroup.x;
  let first_row = row_block * 64u;
  let end_row = min(first_row + 64u, u.query_length);
  let plan_row = (batch * u.plan_heads + head * u.plan_heads / u.query_heads) * u.plan_rows + first_row / u.plan_block_q;
  let k_head = u.k_offset + batch * u.k_batch_stride + kv_head * u.k_head_stride;
  let v_head = u.v_offset + batch * u.v_batch_stride + kv_head * u.v_head_stride;
  let row_in_block = local % ROWS;
  let slice_index = local / ROWS;
  let first_vec4 = slice_index * SLICE_VEC4;
  let first_unit = slice_index * SLICE_UNITS;
  let row = first_row + row_in_block;
  let live = row < end_row;

  // Keys before these ends are visible: to this row, and to any row of the workgroup.
  let row_end = u32(clamp(i32(row) + u.query_offset + 1, 0, i32(u.key_length)));
  let block_end = u32(clamp(i32(end_row - 1u) + u.query_offset + 1, 0, i32(u.key_length)));

  let q_row = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row * u.q_row_stride + first_unit;
  var query: array<vec4<f32>, SLICE_VEC4>;
  for (var i = 0u; i < SLICE_UNITS; i++) {
    if (live && first_unit + i < UNITS) {
      let unit = q[q_row + i];
      query[i * 2u + 0u] = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      query[i * 2u + 1u] = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    }
  }
  // Scaled before the product: huge f16 inputs would lose more after it.
  for (var d = 0u; d < SLICE_VEC4; d++) { query[d] *= u.scale; }
  var acc: array<vec4<f32>, SLICE_VEC4>;
  var row_max = -3.4028234e38;
  var row_sum = 0.0;

  for (var list = 0u; list < u.lists; list++) {
    let width = select(u.width_1, u.width_0, list == 0u);
    let capacity = select(u.capacity_1, u.capacity_0, list == 0u);
    let list_start = select(u.list_rows * u.capacity_0, 0u, list == 0u) + plan_row * capacity;
    var positions = u.key_length;
    if (u.dense == 0u) { positions = width * min(counts[list * u.list_rows + plan_row], capacity); }
    for (var tile = 0u; tile < positions; tile += TILE_KEYS) {
      var first_key = tile;
      if (u.dense == 0u) { first_key = indices[list_start + tile / width] + tile % width; }
      if (first_key >= block_end) { break; }
      workgroupBarrier();
      if (local < TILE_KEYS) {
        let position = tile + local;
        var key = position;
        if (u.dense == 0u && position < positions) { key = indices[list_start + position / width] + position % width; }
        tile_keys[local] = select(0xffffffffu, key, position < positions && key < u.key_length);
      }
      workgroupBarrier();
      for (var index = local; index < TILE_KEYS * TILE_UNITS; index += 64u) {
        let key = tile_keys[index / TILE_UNITS];
        let unit_in_row = index % TILE_UNITS;
        let at = index * 2u;
        let inside = key < u.key_length && unit_in_row < UNITS;
        k_tile[at + 0u] = vec4<f32>(); k_tile[at + 1u] = vec4<f32>();
        if (inside) {
          let unit = k[k_head + key * u.k_row_stride + unit_in_row];
          k_tile[at + 0u] = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
          k_tile[at + 1u] = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
        }
        v_tile[at + 0u] = vec4<f32>(); v_tile[at + 1u] = vec4<f32>();
        if (inside) {
          let unit = v[v_head + key * u.v_row_stride + unit_in_row];
          v_tile[at + 0u] = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
          v_tile[at + 1u] = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
        }
      }
      workgroupBarrier();
      // Keys of the tile that this row sees.
      let visible = visible_keys(row_end);
      // Online softmax (Milakov and Gimelshein 2018), 4 keys a step. Past the last visible key the lanes repeat
      // it with weight 0: no row reads what it must not see, whatever lies there.
      for (var j = 0u; j < visible; j += 4u) {
        let key0 = min(j + 0u, visible - 1u);
        let key1 = min(j + 1u, visible - 1u);
        let key2 = min(j + 2u, visible - 1u);
        let key3 = min(j + 3u, visible - 1u);
        let k0 = key0 * ROW_VEC4 + first_vec4;
        let k1 = key1 * ROW_VEC4 + first_vec4;
        let k2 = key2 * ROW_VEC4 + first_vec4;
        let k3 = key3 * ROW_VEC4 + first_vec4;
        var s0 = 0.0; var s1 = 0.0; var s2 = 0.0; var s3 = 0.0;
        for (var d = 0u; d < SLICE_VEC4; d++) {
          s0 += dot(query[d], k_tile[k0 + d]);
          s1 += dot(query[d], k_tile[k1 + d]);
          s2 += dot(query[d], k_tile[k2 + d]);
          s3 += dot(query[d], k_tile[k3 + d]);
        }
        let top = max(max(max(s0, s1), s2), s3);
        if (top > row_max) {
          // The difference may overflow on huge logits; any number below −126 gives the same 0.
          let rescale = exp2(max(row_max - top, -1000.0));
          row_max = top;
          row_sum *= rescale;
          for (var d = 0u; d < SLICE_VEC4; d++) { acc[d] *= rescale; }
        }
        let p0 = exp2(s0 - row_max);
        let p1 = select(0.0, exp2(s1 - row_max), j + 1u < visible);
        let p2 = select(0.0, exp2(s2 - row_max), j + 2u < visible);
        let p3 = select(0.0, exp2(s3 - row_max), j + 3u < visible);
        row_sum += p0 + p1 + p2 + p3;
        let v0 = key0 * ROW_VEC4 + first_vec4;
        let v1 = key1 * ROW_VEC4 + first_vec4;
        let v2 = key2 * ROW_VEC4 + first_vec4;
        let v3 = key3 * ROW_VEC4 + first_vec4;
        for (var d = 0u; d < SLICE_VEC4; d++) {
          acc[d] += p0 * v_tile[v0 + d] + p1 * v_tile[v1 + d] + p2 * v_tile[v2 + d] + p3 * v_tile[v3 + d];
        }
      }
    }
  }

  if (!live) { return; }
  let empty = row_sum == 0.0;
  let inverse = select(1.0 / row_sum, 0.0, empty);
  let out_row = u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row * u.out_row_stride + first_unit;
  for (var d = 0u; d < SLICE_VEC4; d++) { acc[d] *= inverse; }
  for (var i = 0u; i < SLICE_UNITS; i++) {
    if (first_unit + i < UNITS) { out[out_row + i] = vec4<u32>(pack2x16float(acc[i * 2u + 0u].xy), pack2x16float(acc[i * 2u + 0u].zw), pack2x16float(acc[i * 2u + 1u].xy), pack2x16float(acc[i * 2u + 1u].zw)); }
  }
  if (slice_index == 0u) {
    let natural = (row_max + log2(row_sum)) * 0.6931471805599453;
    lse[(batch * u.query_heads + head) * u.query_length + row] = select(bitcast<u32>(natural), 0xff800000u, empty);
  }
}
