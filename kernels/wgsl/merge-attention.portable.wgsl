// out = Σₚ exp(lseₚ − lse) outₚ and lse = ln Σₚ exp(lseₚ), over parts that attended to disjoint keys.
//
// Axes: P parts, R = B·Hq·Lq rows, D head_dim. part_out f32 [P, R, D].
// part_statistics [P, R]: the LSE as f32 bits, natural log, −∞ for parts without a key.
// out [B, Hq, Lq, D] f16, strided; lse [B, Hq, Lq] f32 bits. A row without any key gives 0 and −∞.
//
// A workgroup has 32 slots, each with an invocation for every 16 bytes of a row of out. A row has u.slots_per_row of them,
// which take turns with its parts; then the first adds up what the others have.
struct Uniforms {
  out_offset: u32,
  out_batch_stride: u32,
  out_head_stride: u32,
  out_row_stride: u32,
  heads: u32,
  query_length: u32,
  rows: u32,
  parts: u32,
  slots_per_row: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> part_out: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> part_statistics: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> lse: array<u32>;

const UNITS = 8u; // 16-byte units of a row of out
const SLOTS = 32u;
const NOTHING = 0xff800000u; // −∞: compared as bits, since compilers may assume that it does not occur

// What each slot found: its largest score, the sum of its weights below that, and its share of the output.
var<workgroup> found: array<vec2<f32>, SLOTS>;
var<workgroup> totals: array<vec4<f32>, 64 * UNITS>;

// The largest score of a part's row, natural, and the sum of its weights below that: 0 without a key.
fn statistics(part: u32, row: u32) -> vec2<f32> {
  if (part >= u.parts) { return vec2<f32>(-3.4028234e38, 0.0); }
  let bits = part_statistics[part * u.rows + row];
  if (bits == NOTHING) { return vec2<f32>(-3.4028234e38, 0.0); }
  return vec2<f32>(bitcast<f32>(bits), 1.0);
}

// Whether a part has a key: by bits, since a sum of NaN is one too, and comparisons may say otherwise.
fn holds(known: vec2<f32>) -> bool { return bitcast<u32>(known.y) != 0u; }

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let slot = local / UNITS;
  let unit = local % UNITS;
  let rows_here = SLOTS / u.slots_per_row;
  let row = (workgroup.y * groups.x + workgroup.x) * rows_here + slot / u.slots_per_row;
  let first = slot % u.slots_per_row;
  let mine = slot < rows_here * u.slots_per_row && row < u.rows;
  var largest = -3.4028234e38;
  var sum = 0.0;
  var total0 = vec4<f32>(); var total1 = vec4<f32>();
  if (mine) {
    for (var part = first; part < u.parts; part += 4u * u.slots_per_row) {
      let part0 = part + 0u * u.slots_per_row;
      let known0 = statistics(part0, row);
      let at0 = ((min(part0, u.parts - 1u) * u.rows + row) * UNITS + unit) * 2u;
      let value0_0 = part_out[at0 + 0u]; let value0_1 = part_out[at0 + 1u];
      let part1 = part + 1u * u.slots_per_row;
      let known1 = statistics(part1, row);
      let at1 = ((min(part1, u.parts - 1u) * u.rows + row) * UNITS + unit) * 2u;
      let value1_0 = part_out[at1 + 0u]; let value1_1 = part_out[at1 + 1u];
      let part2 = part + 2u * u.slots_per_row;
      let known2 = statistics(part2, row);
      let at2 = ((min(part2, u.parts - 1u) * u.rows + row) * UNITS + unit) * 2u;
      let value2_0 = part_out[at2 + 0u]; let value2_1 = part_out[at2 + 1u];
      let part3 = part + 3u * u.slots_per_row;
      let known3 = statistics(part3, row);
      let at3 = ((min(part3, u.parts - 1u) * u.rows + row) * UNITS + unit) * 2u;
      let value3_0 = part_out[at3 + 0u]; let value3_1 = part_out[at3 + 1u];
      var top = largest;
      if (holds(known0)) { top = max(top, known0.x); }
      if (holds(known1)) { top = max(top, known1.x); }
      if (holds(known2)) { top = max(top, known2.x); }
      if (holds(known3)) { top = max(top, known3.x); }
      let rescale = exp2(max(largest - top, -1000.0) * 1.4426950408889634);
      largest = top;
      sum *= rescale;
      total0 *= rescale; total1 *= rescale;
      if (holds(known0)) { // else its output was never written
        let weight = known0.y * exp2(max(known0.x - top, -1000.0) * 1.4426950408889634);
        sum += weight;
        total0 += weight * value0_0; total1 += weight * value0_1;
      }
      if (holds(known1)) { // else its output was never written
        let weight = known1.y * exp2(max(known1.x - top, -1000.0) * 1.4426950408889634);
        sum += weight;
        total0 += weight * value1_0; total1 += weight * value1_1;
      }
      if (holds(known2)) { // else its output was never written
        let weight = known2.y * exp2(max(known2.x - top, -1000.0) * 1.4426950408889634);
        sum += weight;
        total0 += weight * value2_0; total1 += weight * value2_1;
      }
      if (holds(known3)) { // else its output was never written
        let weight = known3.y * exp2(max(known3.x - top, -1000.0) * 1.4426950408889634);
        sum += weight;
        total0 += weight * value3_0; total1 += weight * value3_1;
      }
    }
  }
  if (slot < SLOTS) {
    found[slot] = vec2<f32>(largest, sum);
    totals[local * 2u + 0u] = total0; totals[local * 2u + 1u] = total1;
  }
  workgroupBarrier();
  if (!mine || first != 0u) { return; }
  for (var other = 1u; other < u.slots_per_row; other++) {
    largest = max(largest, found[slot + other].x);
  }
  sum = 0.0;
  total0 = vec4<f32>(); total1 = vec4<f32>();
  for (var other = 0u; other < u.slots_per_row; other++) {
    let share = found[slot + other];
    let weight = exp2(max(share.x - largest, -1000.0) * 1.4426950408889634);
    sum += weight * share.y;
    let at = (local + other * UNITS) * 2u;
    total0 += weight * totals[at + 0u]; total1 += weight * totals[at + 1u];
  }
  let empty = sum == 0.0;
  let inverse = select(1.0 / sum, 0.0, empty);
  total0 *= inverse; total1 *= inverse;
  let query = row % u.query_length;
  let head = row / u.query_length % u.heads;
  let batch = row / u.query_length / u.heads;
  out[u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + query * u.out_row_stride + unit] =
    vec4<u32>(pack2x16float(total0.xy), pack2x16float(total0.zw), pack2x16float(total1.xy), pack2x16float(total1.zw));
  if (unit == 0u) { lse[row] = select(bitcast<u32>(largest + log2(sum) * 0.6931471805599453), NOTHING, empty); }
}
