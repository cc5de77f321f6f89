// out = Σₚ exp(lseₚ − lse) outₚ and lse = ln Σₚ exp(lseₚ), over parts that attended to disjoint keys.
//
// Axes: P parts, R = B·Hq·Lq rows, D head_dim. part_out f32 [P, R, D].
// part_statistics [P, R]: the LSE as f32 bits, natural log, −∞ for parts without a key.
// out [B, Hq, Lq, D] f16, strided; lse [B, Hq, Lq] f32 bits. A row without any key gives 0 and −∞.
struct Uniforms {
  out_offset: u32,
  out_batch_stride: u32,
  out_head_stride: u32,
  out_row_stride: u32,
  heads: u32,
  query_length: u32,
  rows: u32,
  parts: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> part_out: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> part_statistics: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> lse: array<u32>;

const UNITS = 8u; // 16-byte units of a row of out
const NOTHING = 0xff800000u; // −∞: compared as bits, since compilers may assume that it does not occur

// The largest score of a part's row, natural, and the sum of its weights below that: 0 without a key.
fn statistics(part: u32, row: u32) -> vec2<f32> {
  let bits = part_statistics[part * u.rows + row];
  if (bits == NOTHING) { return vec2<f32>(); }
  return vec2<f32>(bitcast<f32>(bits), 1.0);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = id.y * groups.x * 64u + id.x;
  let row = index / UNITS;
  let unit = index % UNITS;
  if (row >= u.rows) { return; }
  var largest = -3.4028234e38;
  var empty = true;
  for (var part = 0u; part < u.parts; part++) {
    let known = statistics(part, row);
    if (known.y == 0.0) { continue; }
    empty = false;
    largest = max(largest, known.x);
  }
  var sum = 0.0;
  var total0 = vec4<f32>(); var total1 = vec4<f32>();
  for (var part = 0u; part < u.parts; part++) {
    let known = statistics(part, row);
    if (known.y == 0.0) { continue; }
    // The difference may overflow on huge logits; any number below −126 gives the same 0.
    let weight = known.y * exp2(max(known.x - largest, -1000.0) * 1.4426950408889634);
    sum += weight;
    let at = ((part * u.rows + row) * UNITS + unit) * 2u;
    total0 += weight * part_out[at + 0u];
    total1 += weight * part_out[at + 1u];
  }
  let inverse = select(1.0 / sum, 0.0, empty);
  total0 *= inverse; total1 *= inverse;
  let query = row % u.query_length;
  let head = row / u.query_length % u.heads;
  let batch = row / u.query_length / u.heads;
  out[u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + query * u.out_row_stride + unit] =
    vec4<u32>(pack2x16float(total0.xy), pack2x16float(total0.zw), pack2x16float(total1.xy), pack2x16float(total1.zw));
  if (unit == 0u) { lse[row] = select(bitcast<u32>(largest + log2(sum) * 0.6931471805599453), NOTHING, empty); }
}
