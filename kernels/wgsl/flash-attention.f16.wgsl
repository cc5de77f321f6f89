enable subgroups;

// Flash attention forward over a block plan or none, causal (bottom-right):
// out = softmax(scale · q kᵀ) v, and the LSE of each row. FlashAttention-2 (arXiv 2307.08691), Algorithm 1:
// f32 math, f16 storage, head_dim 64.
//
// Axes: B batch, Hq and Hkv query and KV heads, Lq and Lk query and key length, D head_dim.
// q, out [B, Hq, Lq, D] and k, v [B, Hkv, Lk, D] f16, strided, read and written 16 bytes at a time.
// lse [B, Hq, Lq] f32 bits, natural log, −∞ (0xff800000) for rows that see no key.
// The plan's arrays are those of core's plan.ts.
//
// A workgroup computes 64 query rows of one head with 64 invocations. 4 neighbouring lanes share 4 rows,
// each with 16 dimensions of q and of the accumulator.
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

const ROWS = 64u;
const TILE_KEYS = 16u;
const UNITS = 8u; // 16-byte units of one row in memory
const TILE_UNITS = 8u; // the same, padded to whole slices
const ROW_VEC4 = 16u; // vec4 of one row of a tile

var<workgroup> k_tile: array<vec4<f32>, 256>;
var<workgroup> v_tile: array<vec4<f32>, 256>;


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
  // Lanes of a subgroup are taken to be neighbours in the workgroup, in its order.
  let slice_index = local % 4u;
  let first_of_lane = local / 4u * 4u;
  let first_vec4 = slice_index * 2u;
  let block_end = u32(clamp(i32(end_row - 1u) + u.query_offset + 1, 0, i32(u.key_length)));

  var q0_0 = vec4<f32>(); var q0_1 = vec4<f32>(); var q0_2 = vec4<f32>(); var q0_3 = vec4<f32>();
  let row0 = first_row + first_of_lane + 0u;
  let row_end0 = select(0u, u32(clamp(i32(row0) + u.query_offset + 1, 0, i32(u.key_length))), row0 < end_row);
  if (row0 < end_row) {
    let q_row = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row0 * u.q_row_stride;
    if (slice_index + 0u < UNITS) {
      let unit = q[q_row + slice_index + 0u];
      q0_0 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      q0_1 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    }
    if (slice_index + 4u < UNITS) {
      let unit = q[q_row + slice_index + 4u];
      q0_2 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      q0_3 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    }
  }
  // Scaled before the product: huge f16 inputs would lose more after it.
  q0_0 *= u.scale; q0_1 *= u.scale; q0_2 *= u.scale; q0_3 *= u.scale;
  var acc0_0 = vec4<f32>(); var acc0_1 = vec4<f32>(); var acc0_2 = vec4<f32>(); var acc0_3 = vec4<f32>();
  var row_max0 = -3.4028234e38;
  var row_sum0 = 0.0;
  var q1_0 = vec4<f32>(); var q1_1 = vec4<f32>(); var q1_2 = vec4<f32>(); var q1_3 = vec4<f32>();
  let row1 = first_row + first_of_lane + 1u;
  let row_end1 = select(0u, u32(clamp(i32(row1) + u.query_offset + 1, 0, i32(u.key_length))), row1 < end_row);
  if (row1 < end_row) {
    let q_row = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row1 * u.q_row_stride;
    if (slice_index + 0u < UNITS) {
      let unit = q[q_row + slice_index + 0u];
      q1_0 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      q1_1 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    }
    if (slice_index + 4u < UNITS) {
      let unit = q[q_row + slice_index + 4u];
      q1_2 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      q1_3 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    }
  }
  // Scaled before the product: huge f16 inputs would lose more after it.
  q1_0 *= u.scale; q1_1 *= u.scale; q1_2 *= u.scale; q1_3 *= u.scale;
  var acc1_0 = vec4<f32>(); var acc1_1 = vec4<f32>(); var acc1_2 = vec4<f32>(); var acc1_3 = vec4<f32>();
  var row_max1 = -3.4028234e38;
  var row_sum1 = 0.0;
  var q2_0 = vec4<f32>(); var q2_1 = vec4<f32>(); var q2_2 = vec4<f32>(); var q2_3 = vec4<f32>();
  let row2 = first_row + first_of_lane + 2u;
  let row_end2 = select(0u, u32(clamp(i32(row2) + u.query_offset + 1, 0, i32(u.key_length))), row2 < end_row);
  if (row2 < end_row) {
    let q_row = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row2 * u.q_row_stride;
    if (slice_index + 0u < UNITS) {
      let unit = q[q_row + slice_index + 0u];
      q2_0 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      q2_1 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    }
    if (slice_index + 4u < UNITS) {
      let unit = q[q_row + slice_index + 4u];
      q2_2 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      q2_3 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    }
  }
  // Scaled before the product: huge f16 inputs would lose more after it.
  q2_0 *= u.scale; q2_1 *= u.scale; q2_2 *= u.scale; q2_3 *= u.scale;
  var acc2_0 = vec4<f32>(); var acc2_1 = vec4<f32>(); var acc2_2 = vec4<f32>(); var acc2_3 = vec4<f32>();
  var row_max2 = -3.4028234e38;
  var row_sum2 = 0.0;
  var q3_0 = vec4<f32>(); var q3_1 = vec4<f32>(); var q3_2 = vec4<f32>(); var q3_3 = vec4<f32>();
  let row3 = first_row + first_of_lane + 3u;
  let row_end3 = select(0u, u32(clamp(i32(row3) + u.query_offset + 1, 0, i32(u.key_length))), row3 < end_row);
  if (row3 < end_row) {
    let q_row = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row3 * u.q_row_stride;
    if (slice_index + 0u < UNITS) {
      let unit = q[q_row + slice_index + 0u];
      q3_0 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      q3_1 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    }
    if (slice_index + 4u < UNITS) {
      let unit = q[q_row + slice_index + 4u];
      q3_2 = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
      q3_3 = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
    }
  }
  // Scaled before the product: huge f16 inputs would lose more after it.
  q3_0 *= u.scale; q3_1 *= u.scale; q3_2 *= u.scale; q3_3 *= u.scale;
  var acc3_0 = vec4<f32>(); var acc3_1 = vec4<f32>(); var acc3_2 = vec4<f32>(); var acc3_3 = vec4<f32>();
  var row_max3 = -3.4028234e38;
  var row_sum3 = 0.0;

  for (var word = 0u; word < u.plan_words; word++) {
    var bits = 0xffffffffu;
    if (u.dense == 0u) { bits = plan[plan_row * u.plan_words + word]; }
    while (bits != 0u) {
      let block = word * 32u + firstTrailingBit(bits);
      bits &= bits - 1u;
      let span_start = block * u.plan_block_k;
      let span_end = min(span_start + u.plan_block_k, block_end);
      for (var tile = span_start; tile < span_end; tile += TILE_KEYS) {
        workgroupBarrier();
        for (var index = local; index < TILE_KEYS * TILE_UNITS; index += 64u) {
          let key = tile + index / TILE_UNITS;
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
        // Keys of the tile that each of the lane's rows sees: the later the row, the more.
        let visible0 = u32(clamp(i32(min(row_end0, span_end)) - i32(tile), 0, i32(TILE_KEYS)));
        let visible1 = u32(clamp(i32(min(row_end1, span_end)) - i32(tile), 0, i32(TILE_KEYS)));
        let visible2 = u32(clamp(i32(min(row_end2, span_end)) - i32(tile), 0, i32(TILE_KEYS)));
        let visible3 = u32(clamp(i32(min(row_end3, span_end)) - i32(tile), 0, i32(TILE_KEYS)));
        // Online softmax (Milakov and Gimelshein 2018), 4 keys a step, as far as any row sees.
        let tile_end = min(TILE_KEYS, span_end - tile);
        for (var j = 0u; j < tile_end; j += 4u) {
          let at0 = (j + 0u) * ROW_VEC4 + first_vec4; let at1 = (j + 1u) * ROW_VEC4 + first_vec4; let at2 = (j + 2u) * ROW_VEC4 + first_vec4; let at3 = (j + 3u) * ROW_VEC4 + first_vec4;
          var s0_0 = 0.0; var s0_1 = 0.0; var s0_2 = 0.0; var s0_3 = 0.0; var s1_0 = 0.0; var s1_1 = 0.0; var s1_2 = 0.0; var s1_3 = 0.0; var s2_0 = 0.0; var s2_1 = 0.0; var s2_2 = 0.0; var s2_3 = 0.0; var s3_0 = 0.0; var s3_1 = 0.0; var s3_2 = 0.0; var s3_3 = 0.0;
          let k0_0 = k_tile[at0 + 0u]; let k1_0 = k_tile[at1 + 0u]; let k2_0 = k_tile[at2 + 0u]; let k3_0 = k_tile[at3 + 0u];
          s0_0 += dot(q0_0, k0_0); s0_1 += dot(q1_0, k0_0); s0_2 += dot(q2_0, k0_0); s0_3 += dot(q3_0, k0_0);
          s1_0 += dot(q0_0, k1_0); s1_1 += dot(q1_0, k1_0); s1_2 += dot(q2_0, k1_0); s1_3 += dot(q3_0, k1_0);
          s2_0 += dot(q0_0, k2_0); s2_1 += dot(q1_0, k2_0); s2_2 += dot(q2_0, k2_0); s2_3 += dot(q3_0, k2_0);
          s3_0 += dot(q0_0, k3_0); s3_1 += dot(q1_0, k3_0); s3_2 += dot(q2_0, k3_0); s3_3 += dot(q3_0, k3_0);
          let k0_1 = k_tile[at0 + 1u]; let k1_1 = k_tile[at1 + 1u]; let k2_1 = k_tile[at2 + 1u]; let k3_1 = k_tile[at3 + 1u];
          s0_0 += dot(q0_1, k0_1); s0_1 += dot(q1_1, k0_1); s0_2 += dot(q2_1, k0_1); s0_3 += dot(q3_1, k0_1);
          s1_0 += dot(q0_1, k1_1); s1_1 += dot(q1_1, k1_1); s1_2 += dot(q2_1, k1_1); s1_3 += dot(q3_1, k1_1);
          s2_0 += dot(q0_1, k2_1); s2_1 += dot(q1_1, k2_1); s2_2 += dot(q2_1, k2_1); s2_3 += dot(q3_1, k2_1);
          s3_0 += dot(q0_1, k3_1); s3_1 += dot(q1_1, k3_1); s3_2 += dot(q2_1, k3_1); s3_3 += dot(q3_1, k3_1);
          let k0_2 = k_tile[at0 + 8u]; let k1_2 = k_tile[at1 + 8u]; let k2_2 = k_tile[at2 + 8u]; let k3_2 = k_tile[at3 + 8u];
          s0_0 += dot(q0_2, k0_2); s0_1 += dot(q1_2, k0_2); s0_2 += dot(q2_2, k0_2); s0_3 += dot(q3_2, k0_2);
          s1_0 += dot(q0_2, k1_2); s1_1 += dot(q1_2, k1_2); s1_2 += dot(q2_2, k1_2); s1_3 += dot(q3_2, k1_2);
          s2_0 += dot(q0_2, k2_2); s2_1 += dot(q1_2, k2_2); s2_2 += dot(q2_2, k2_2); s2_3 += dot(q3_2, k2_2);
          s3_0 += dot(q0_2, k3_2); s3_1 += dot(q1_2, k3_2); s3_2 += dot(q2_2, k3_2); s3_3 += dot(q3_2, k3_2);
          let k0_3 = k_tile[at0 + 9u]; let k1_3 = k_tile[at1 + 9u]; let k2_3 = k_tile[at2 + 9u]; let k3_3 = k_tile[at3 + 9u];
          s0_0 += dot(q0_3, k0_3); s0_1 += dot(q1_3, k0_3); s0_2 += dot(q2_3, k0_3); s0_3 += dot(q3_3, k0_3);
          s1_0 += dot(q0_3, k1_3); s1_1 += dot(q1_3, k1_3); s1_2 += dot(q2_3, k1_3); s1_3 += dot(q3_3, k1_3);
          s2_0 += dot(q0_3, k2_3); s2_1 += dot(q1_3, k2_3); s2_2 += dot(q2_3, k2_3); s2_3 += dot(q3_3, k2_3);
          s3_0 += dot(q0_3, k3_3); s3_1 += dot(q1_3, k3_3); s3_2 += dot(q2_3, k3_3); s3_3 += dot(q3_3, k3_3);
          s0_0 += subgroupShuffleXor(s0_0, 1u); s0_0 += subgroupShuffleXor(s0_0, 2u);
          s0_1 += subgroupShuffleXor(s0_1, 1u); s0_1 += subgroupShuffleXor(s0_1, 2u);
          s0_2 += subgroupShuffleXor(s0_2, 1u); s0_2 += subgroupShuffleXor(s0_2, 2u);
          s0_3 += subgroupShuffleXor(s0_3, 1u); s0_3 += subgroupShuffleXor(s0_3, 2u);
          s1_0 += subgroupShuffleXor(s1_0, 1u); s1_0 += subgroupShuffleXor(s1_0, 2u);
          s1_1 += subgroupShuffleXor(s1_1, 1u); s1_1 += subgroupShuffleXor(s1_1, 2u);
          s1_2 += subgroupShuffleXor(s1_2, 1u); s1_2 += subgroupShuffleXor(s1_2, 2u);
          s1_3 += subgroupShuffleXor(s1_3, 1u); s1_3 += subgroupShuffleXor(s1_3, 2u);
          s2_0 += subgroupShuffleXor(s2_0, 1u); s2_0 += subgroupShuffleXor(s2_0, 2u);
          s2_1 += subgroupShuffleXor(s2_1, 1u); s2_1 += subgroupShuffleXor(s2_1, 2u);
          s2_2 += subgroupShuffleXor(s2_2, 1u); s2_2 += subgroupShuffleXor(s2_2, 2u);
          s2_3 += subgroupShuffleXor(s2_3, 1u); s2_3 += subgroupShuffleXor(s2_3, 2u);
          s3_0 += subgroupShuffleXor(s3_0, 1u); s3_0 += subgroupShuffleXor(s3_0, 2u);
          s3_1 += subgroupShuffleXor(s3_1, 1u); s3_1 += subgroupShuffleXor(s3_1, 2u);
          s3_2 += subgroupShuffleXor(s3_2, 1u); s3_2 += subgroupShuffleXor(s3_2, 2u);
          s3_3 += subgroupShuffleXor(s3_3, 1u); s3_3 += subgroupShuffleXor(s3_3, 2u);
          s0_0 = select(-3.4028234e38, s0_0, j + 0u < visible0); s0_1 = select(-3.4028234e38, s0_1, j + 0u < visible1); s0_2 = select(-3.4028234e38, s0_2, j + 0u < visible2); s0_3 = select(-3.4028234e38, s0_3, j + 0u < visible3);
          s1_0 = select(-3.4028234e38, s1_0, j + 1u < visible0); s1_1 = select(-3.4028234e38, s1_1, j + 1u < visible1); s1_2 = select(-3.4028234e38, s1_2, j + 1u < visible2); s1_3 = select(-3.4028234e38, s1_3, j + 1u < visible3);
          s2_0 = select(-3.4028234e38, s2_0, j + 2u < visible0); s2_1 = select(-3.4028234e38, s2_1, j + 2u < visible1); s2_2 = select(-3.4028234e38, s2_2, j + 2u < visible2); s2_3 = select(-3.4028234e38, s2_3, j + 2u < visible3);
          s3_0 = select(-3.4028234e38, s3_0, j + 3u < visible0); s3_1 = select(-3.4028234e38, s3_1, j + 3u < visible1); s3_2 = select(-3.4028234e38, s3_2, j + 3u < visible2); s3_3 = select(-3.4028234e38, s3_3, j + 3u < visible3);
          let top0 = max(max(max(s0_0, s1_0), s2_0), s3_0);
          if (top0 > row_max0) {
            // The difference may overflow on huge logits; any number below −126 gives the same 0.
            let rescale = exp2(max(row_max0 - top0, -1000.0));
            row_max0 = top0;
            row_sum0 *= rescale;
            acc0_0 *= rescale; acc0_1 *= rescale; acc0_2 *= rescale; acc0_3 *= rescale;
          }
          let p0_0 = select(0.0, exp2(s0_0 - row_max0), j + 0u < visible0);
          let p1_0 = select(0.0, exp2(s1_0 - row_max0), j + 1u < visible0);
          let p2_0 = select(0.0, exp2(s2_0 - row_max0), j + 2u < visible0);
          let p3_0 = select(0.0, exp2(s3_0 - row_max0), j + 3u < visible0);
          row_sum0 += p0_0 + p1_0 + p2_0 + p3_0;
          let top1 = max(max(max(s0_1, s1_1), s2_1), s3_1);
          if (top1 > row_max1) {
            // The difference may overflow on huge logits; any number below −126 gives the same 0.
            let rescale = exp2(max(row_max1 - top1, -1000.0));
            row_max1 = top1;
            row_sum1 *= rescale;
            acc1_0 *= rescale; acc1_1 *= rescale; acc1_2 *= rescale; acc1_3 *= rescale;
          }
          let p0_1 = select(0.0, exp2(s0_1 - row_max1), j + 0u < visible1);
          let p1_1 = select(0.0, exp2(s1_1 - row_max1), j + 1u < visible1);
          let p2_1 = select(0.0, exp2(s2_1 - row_max1), j + 2u < visible1);
          let p3_1 = select(0.0, exp2(s3_1 - row_max1), j + 3u < visible1);
          row_sum1 += p0_1 + p1_1 + p2_1 + p3_1;
          let top2 = max(max(max(s0_2, s1_2), s2_2), s3_2);
          if (top2 > row_max2) {
            // The difference may overflow on huge logits; any number below −126 gives the same 0.
            let rescale = exp2(max(row_max2 - top2, -1000.0));
            row_max2 = top2;
            row_sum2 *= rescale;
            acc2_0 *= rescale; acc2_1 *= rescale; acc2_2 *= rescale; acc2_3 *= rescale;
          }
          let p0_2 = select(0.0, exp2(s0_2 - row_max2), j + 0u < visible2);
          let p1_2 = select(0.0, exp2(s1_2 - row_max2), j + 1u < visible2);
          let p2_2 = select(0.0, exp2(s2_2 - row_max2), j + 2u < visible2);
          let p3_2 = select(0.0, exp2(s3_2 - row_max2), j + 3u < visible2);
          row_sum2 += p0_2 + p1_2 + p2_2 + p3_2;
          let top3 = max(max(max(s0_3, s1_3), s2_3), s3_3);
          if (top3 > row_max3) {
            // The difference may overflow on huge logits; any number below −126 gives the same 0.
            let rescale = exp2(max(row_max3 - top3, -1000.0));
            row_max3 = top3;
            row_sum3 *= rescale;
            acc3_0 *= rescale; acc3_1 *= rescale; acc3_2 *= rescale; acc3_3 *= rescale;
          }
          let p0_3 = select(0.0, exp2(s0_3 - row_max3), j + 0u < visible3);
          let p1_3 = select(0.0, exp2(s1_3 - row_max3), j + 1u < visible3);
          let p2_3 = select(0.0, exp2(s2_3 - row_max3), j + 2u < visible3);
          let p3_3 = select(0.0, exp2(s3_3 - row_max3), j + 3u < visible3);
          row_sum3 += p0_3 + p1_3 + p2_3 + p3_3;
          if (j + 4u <= visible0 && j + 4u <= visible1 && j + 4u <= visible2 && j + 4u <= visible3) {
            let v0_0 = v_tile[at0 + 0u]; let v1_0 = v_tile[at1 + 0u]; let v2_0 = v_tile[at2 + 0u]; let v3_0 = v_tile[at3 + 0u];
            acc0_0 += p0_0 * v0_0 + p1_0 * v1_0 + p2_0 * v2_0 + p3_0 * v3_0;
            acc1_0 += p0_1 * v0_0 + p1_1 * v1_0 + p2_1 * v2_0 + p3_1 * v3_0;
            acc2_0 += p0_2 * v0_0 + p1_2 * v1_0 + p2_2 * v2_0 + p3_2 * v3_0;
            acc3_0 += p0_3 * v0_0 + p1_3 * v1_0 + p2_3 * v2_0 + p3_3 * v3_0;
            let v0_1 = v_tile[at0 + 1u]; let v1_1 = v_tile[at1 + 1u]; let v2_1 = v_tile[at2 + 1u]; let v3_1 = v_tile[at3 + 1u];
            acc0_1 += p0_0 * v0_1 + p1_0 * v1_1 + p2_0 * v2_1 + p3_0 * v3_1;
            acc1_1 += p0_1 * v0_1 + p1_1 * v1_1 + p2_1 * v2_1 + p3_1 * v3_1;
            acc2_1 += p0_2 * v0_1 + p1_2 * v1_1 + p2_2 * v2_1 + p3_2 * v3_1;
            acc3_1 += p0_3 * v0_1 + p1_3 * v1_1 + p2_3 * v2_1 + p3_3 * v3_1;
            let v0_2 = v_tile[at0 + 8u]; let v1_2 = v_tile[at1 + 8u]; let v2_2 = v_tile[at2 + 8u]; let v3_2 = v_tile[at3 + 8u];
            acc0_2 += p0_0 * v0_2 + p1_0 * v1_2 + p2_0 * v2_2 + p3_0 * v3_2;
            acc1_2 += p0_1 * v0_2 + p1_1 * v1_2 + p2_1 * v2_2 + p3_1 * v3_2;
            acc2_2 += p0_2 * v0_2 + p1_2 * v1_2 + p2_2 * v2_2 + p3_2 * v3_2;
            acc3_2 += p0_3 * v0_2 + p1_3 * v1_2 + p2_3 * v2_2 + p3_3 * v3_2;
            let v0_3 = v_tile[at0 + 9u]; let v1_3 = v_tile[at1 + 9u]; let v2_3 = v_tile[at2 + 9u]; let v3_3 = v_tile[at3 + 9u];
            acc0_3 += p0_0 * v0_3 + p1_0 * v1_3 + p2_0 * v2_3 + p3_0 * v3_3;
            acc1_3 += p0_1 * v0_3 + p1_1 * v1_3 + p2_1 * v2_3 + p3_1 * v3_3;
            acc2_3 += p0_2 * v0_3 + p1_2 * v1_3 + p2_2 * v2_3 + p3_2 * v3_3;
            acc3_3 += p0_3 * v0_3 + p1_3 * v1_3 + p2_3 * v2_3 + p3_3 * v3_3;
          } else {
            let v0_0 = v_tile[at0 + 0u]; let v1_0 = v_tile[at1 + 0u]; let v2_0 = v_tile[at2 + 0u]; let v3_0 = v_tile[at3 + 0u];
            acc0_0 += select(vec4<f32>(), p0_0 * v0_0, j + 0u < visible0) + select(vec4<f32>(), p1_0 * v1_0, j + 1u < visible0) + select(vec4<f32>(), p2_0 * v2_0, j + 2u < visible0) + select(vec4<f32>(), p3_0 * v3_0, j + 3u < visible0);
            acc1_0 += select(vec4<f32>(), p0_1 * v0_0, j + 0u < visible1) + select(vec4<f32>(), p1_1 * v1_0, j + 1u < visible1) + select(vec4<f32>(), p2_1 * v2_0, j + 2u < visible1) + select(vec4<f32>(), p3_1 * v3_0, j + 3u < visible1);
            acc2_0 += select(vec4<f32>(), p0_2 * v0_0, j + 0u < visible2) + select(vec4<f32>(), p1_2 * v1_0, j + 1u < visible2) + select(vec4<f32>(), p2_2 * v2_0, j + 2u < visible2) + select(vec4<f32>(), p3_2 * v3_0, j + 3u < visible2);
            acc3_0 += select(vec4<f32>(), p0_3 * v0_0, j + 0u < visible3) + select(vec4<f32>(), p1_3 * v1_0, j + 1u < visible3) + select(vec4<f32>(), p2_3 * v2_0, j + 2u < visible3) + select(vec4<f32>(), p3_3 * v3_0, j + 3u < visible3);
            let v0_1 = v_tile[at0 + 1u]; let v1_1 = v_tile[at1 + 1u]; let v2_1 = v_tile[at2 + 1u]; let v3_1 = v_tile[at3 + 1u];
            acc0_1 += select(vec4<f32>(), p0_0 * v0_1, j + 0u < visible0) + select(vec4<f32>(), p1_0 * v1_1, j + 1u < visible0) + select(vec4<f32>(), p2_0 * v2_1, j + 2u < visible0) + select(vec4<f32>(), p3_0 * v3_1, j + 3u < visible0);
            acc1_1 += select(vec4<f32>(), p0_1 * v0_1, j + 0u < visible1) + select(vec4<f32>(), p1_1 * v1_1, j + 1u < visible1) + select(vec4<f32>(), p2_1 * v2_1, j + 2u < visible1) + select(vec4<f32>(), p3_1 * v3_1, j + 3u < visible1);
            acc2_1 += select(vec4<f32>(), p0_2 * v0_1, j + 0u < visible2) + select(vec4<f32>(), p1_2 * v1_1, j + 1u < visible2) + select(vec4<f32>(), p2_2 * v2_1, j + 2u < visible2) + select(vec4<f32>(), p3_2 * v3_1, j + 3u < visible2);
            acc3_1 += select(vec4<f32>(), p0_3 * v0_1, j + 0u < visible3) + select(vec4<f32>(), p1_3 * v1_1, j + 1u < visible3) + select(vec4<f32>(), p2_3 * v2_1, j + 2u < visible3) + select(vec4<f32>(), p3_3 * v3_1, j + 3u < visible3);
            let v0_2 = v_tile[at0 + 8u]; let v1_2 = v_tile[at1 + 8u]; let v2_2 = v_tile[at2 + 8u]; let v3_2 = v_tile[at3 + 8u];
            acc0_2 += select(vec4<f32>(), p0_0 * v0_2, j + 0u < visible0) + select(vec4<f32>(), p1_0 * v1_2, j + 1u < visible0) + select(vec4<f32>(), p2_0 * v2_2, j + 2u < visible0) + select(vec4<f32>(), p3_0 * v3_2, j + 3u < visible0);
            acc1_2 += select(vec4<f32>(), p0_1 * v0_2, j + 0u < visible1) + select(vec4<f32>(), p1_1 * v1_2, j + 1u < visible1) + select(vec4<f32>(), p2_1 * v2_2, j + 2u < visible1) + select(vec4<f32>(), p3_1 * v3_2, j + 3u < visible1);
            acc2_2 += select(vec4<f32>(), p0_2 * v0_2, j + 0u < visible2) + select(vec4<f32>(), p1_2 * v1_2, j + 1u < visible2) + select(vec4<f32>(), p2_2 * v2_2, j + 2u < visible2) + select(vec4<f32>(), p3_2 * v3_2, j + 3u < visible2);
            acc3_2 += select(vec4<f32>(), p0_3 * v0_2, j + 0u < visible3) + select(vec4<f32>(), p1_3 * v1_2, j + 1u < visible3) + select(vec4<f32>(), p2_3 * v2_2, j + 2u < visible3) + select(vec4<f32>(), p3_3 * v3_2, j + 3u < visible3);
            let v0_3 = v_tile[at0 + 9u]; let v1_3 = v_tile[at1 + 9u]; let v2_3 = v_tile[at2 + 9u]; let v3_3 = v_tile[at3 + 9u];
            acc0_3 += select(vec4<f32>(), p0_0 * v0_3, j + 0u < visible0) + select(vec4<f32>(), p1_0 * v1_3, j + 1u < visible0) + select(vec4<f32>(), p2_0 * v2_3, j + 2u < visible0) + select(vec4<f32>(), p3_0 * v3_3, j + 3u < visible0);
            acc1_3 += select(vec4<f32>(), p0_1 * v0_3, j + 0u < visible1) + select(vec4<f32>(), p1_1 * v1_3, j + 1u < visible1) + select(vec4<f32>(), p2_1 * v2_3, j + 2u < visible1) + select(vec4<f32>(), p3_1 * v3_3, j + 3u < visible1);
            acc2_3 += select(vec4<f32>(), p0_2 * v0_3, j + 0u < visible2) + select(vec4<f32>(), p1_2 * v1_3, j + 1u < visible2) + select(vec4<f32>(), p2_2 * v2_3, j + 2u < visible2) + select(vec4<f32>(), p3_2 * v3_3, j + 3u < visible2);
            acc3_3 += select(vec4<f32>(), p0_3 * v0_3, j + 0u < visible3) + select(vec4<f32>(), p1_3 * v1_3, j + 1u < visible3) + select(vec4<f32>(), p2_3 * v2_3, j + 2u < visible3) + select(vec4<f32>(), p3_3 * v3_3, j + 3u < visible3);
          }
        }
      }
    }
  }

  if (row0 < end_row) {
    let empty = row_sum0 == 0.0;
    let inverse = select(1.0 / row_sum0, 0.0, empty);
    let out_row = u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row0 * u.out_row_stride;
    acc0_0 *= inverse; acc0_1 *= inverse; acc0_2 *= inverse; acc0_3 *= inverse;
    if (slice_index + 0u < UNITS) { out[out_row + slice_index + 0u] = vec4<u32>(pack2x16float(acc0_0.xy), pack2x16float(acc0_0.zw), pack2x16float(acc0_1.xy), pack2x16float(acc0_1.zw)); }
    if (slice_index + 4u < UNITS) { out[out_row + slice_index + 4u] = vec4<u32>(pack2x16float(acc0_2.xy), pack2x16float(acc0_2.zw), pack2x16float(acc0_3.xy), pack2x16float(acc0_3.zw)); }
    if (slice_index == 0u) {
      let natural = (row_max0 + log2(row_sum0)) * 0.6931471805599453;
      lse[(batch * u.query_heads + head) * u.query_length + row0] = select(bitcast<u32>(natural), 0xff800000u, empty);
    }
  }
  if (row1 < end_row) {
    let empty = row_sum1 == 0.0;
    let inverse = select(1.0 / row_sum1, 0.0, empty);
    let out_row = u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row1 * u.out_row_stride;
    acc1_0 *= inverse; acc1_1 *= inverse; acc1_2 *= inverse; acc1_3 *= inverse;
    if (slice_index + 0u < UNITS) { out[out_row + slice_index + 0u] = vec4<u32>(pack2x16float(acc1_0.xy), pack2x16float(acc1_0.zw), pack2x16float(acc1_1.xy), pack2x16float(acc1_1.zw)); }
    if (slice_index + 4u < UNITS) { out[out_row + slice_index + 4u] = vec4<u32>(pack2x16float(acc1_2.xy), pack2x16float(acc1_2.zw), pack2x16float(acc1_3.xy), pack2x16float(acc1_3.zw)); }
    if (slice_index == 0u) {
      let natural = (row_max1 + log2(row_sum1)) * 0.6931471805599453;
      lse[(batch * u.query_heads + head) * u.query_length + row1] = select(bitcast<u32>(natural), 0xff800000u, empty);
    }
  }
  if (row2 < end_row) {
    let empty = row_sum2 == 0.0;
    let inverse = select(1.0 / row_sum2, 0.0, empty);
    let out_row = u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row2 * u.out_row_stride;
    acc2_0 *= inverse; acc2_1 *= inverse; acc2_2 *= inverse; acc2_3 *= inverse;
    if (slice_index + 0u < UNITS) { out[out_row + slice_index + 0u] = vec4<u32>(pack2x16float(acc2_0.xy), pack2x16float(acc2_0.zw), pack2x16float(acc2_1.xy), pack2x16float(acc2_1.zw)); }
    if (slice_index + 4u < UNITS) { out[out_row + slice_index + 4u] = vec4<u32>(pack2x16float(acc2_2.xy), pack2x16float(acc2_2.zw), pack2x16float(acc2_3.xy), pack2x16float(acc2_3.zw)); }
    if (slice_index == 0u) {
      let natural = (row_max2 + log2(row_sum2)) * 0.6931471805599453;
      lse[(batch * u.query_heads + head) * u.query_length + row2] = select(bitcast<u32>(natural), 0xff800000u, empty);
    }
  }
  if (row3 < end_row) {
    let empty = row_sum3 == 0.0;
    let inverse = select(1.0 / row_sum3, 0.0, empty);
    let out_row = u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row3 * u.out_row_stride;
    acc3_0 *= inverse; acc3_1 *= inverse; acc3_2 *= inverse; acc3_3 *= inverse;
    if (slice_index + 0u < UNITS) { out[out_row + slice_index + 0u] = vec4<u32>(pack2x16float(acc3_0.xy), pack2x16float(acc3_0.zw), pack2x16float(acc3_1.xy), pack2x16float(acc3_1.zw)); }
    if (slice_index + 4u < UNITS) { out[out_row + slice_index + 4u] = vec4<u32>(pack2x16float(acc3_2.xy), pack2x16float(acc3_2.zw), pack2x16float(acc3_3.xy), pack2x16float(acc3_3.zw)); }
    if (slice_index == 0u) {
      let natural = (row_max3 + log2(row_sum3)) * 0.6931471805599453;
      lse[(batch * u.query_heads + head) * u.query_length + row3] = select(bitcast<u32>(natural), 0xff800000u, empty);
    }
  }
}
