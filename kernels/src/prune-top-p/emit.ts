import type { KernelSource } from '@sparse-attention/core'
import { pageTableFunctions, pageTableUniforms } from '../shared/pages.js'
import { uniformStruct } from '../shared/uniforms.js'
import { indent, LOWEST, orderedFunction } from '../shared/wgsl.js'
import { type RowInvocations, scanBytesOf, workgroupScanFunction } from '../shared/workgroup-scan.js'

export const pruneTopPUniforms = {
  ...pageTableUniforms,
  query_heads: 'u32',
  group_size: 'u32',
  /** Pages that a list has room for. */
  capacity: 'u32',
  /** First entry of `top_p` for this layer. */
  first_p: 'u32',
  /** First tokens of the list that are kept whatever their weight. */
  forced: 'u32',
} as const

/** p is taken so much larger, relatively: more than what rounding takes off the sums. */
export const MARGIN = 2 ** -16

/** Top-p over the tokens of a list, as bits: one workgroup a query head. */
export function emitPruneTopP(invocations: RowInvocations): KernelSource {
  const binsEach = 1024 / invocations
  /** Statements for each token that is not forced: `weight`. */
  const eachWeight = (statement: string) => `\
for (var i = local; i * 4u < end; i += ${invocations}u) {
  let four = scores[first + i];
  for (var j = 0u; j < 4u; j++) {
    if (i * 4u + j >= end || is_forced(i * 4u + j, end)) { continue; }
    let weight = four[j];
    ${indent(statement, 4)}
  }
}`
  const code = `\
// The smallest weight such that the tokens of at least it, and the forced ones, hold a share p of the row's mass (Twilight, arXiv
// 2502.02770, §3): weights are the softmax of the scores over the list alone. All ties at the cut are kept.
//
// scores f32 [B, Hq, capacity · page_size]; on return the weights, e^(score − largest). counts i32[B, Hkv]: pages of the lists. top_p f32
// [layers · Hq]. bits u32[B, Hq, ⌈capacity · page_size / 32⌉]: which tokens of the list are kept. Forced are the first of the list and its last
// token, the query's own. Rows with p ≥ 1, and rows without a finite score, keep all.
//
// No sort: bits of positive floats order as the floats do, so the cut is found digit by digit, each digit from the mass of the
// weights that share those above it. Masses are integers in units of 2^-24 of the largest weight, in two words, so that sums
// are exact in any order; a weight is rounded down, and the mass wanted is of weights that are not: the share kept is never below p.
// One workgroup of ${invocations} a row, four scores at a time.
${uniformStruct('Uniforms', pruneTopPUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> counts: array<u32>;
@group(0) @binding(3) var<storage, read> top_p: array<f32>;
@group(0) @binding(4) var<storage, read_write> scores: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> bits: array<u32>;

const BINS = 1024u;
const LEAST = 3296u; // bits >> 18 of 2^-24: weights below it have no mass

var<workgroup> low_mass: array<atomic<u32>, 1024>; // the lowest 12 bits of each mass
var<workgroup> high_mass: array<atomic<u32>, 1024>; // the 13 bits above
var<workgroup> digit_at_cut: u32;
var<workgroup> mass_above: vec2<u32>;
var<workgroup> words: array<atomic<u32>, ${invocations / 8}>;

${pageTableFunctions}

${orderedFunction}

${workgroupScanFunction('f32', 'workgroup_scan', invocations)}

${workgroupScanFunction('u32', 'count_scan', invocations)}

// Masses in two words, units of 2^-12 and 2^-24: the carry.
fn carried(mass: vec2<u32>) -> vec2<u32> { return vec2<u32>(mass.x + (mass.y >> 12u), mass.y & 0xfffu); }

fn is_less(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x < b.x || (a.x == b.x && a.y < b.y); }

fn is_forced(position: u32, end: u32) -> bool { return position < u.forced || position + 1u == end; }

@compute @workgroup_size(${invocations})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let sequence = workgroup.y;
  let row = sequence * u.query_heads + workgroup.x;
  let first = row * u.capacity * u.page_size / 4u;
  let pages = min(counts[row / u.group_size], u.capacity);
  // The last page of a list is the sequence's, which may be short.
  let keys = key_count(sequence);
  let end = pages * u.page_size - (u.page_size - 1u - (max(keys, 1u) - 1u) % u.page_size) * min(pages, 1u);
  let p = top_p[u.first_p + workgroup.x] * ${1 + MARGIN};

  // The largest score.
  var largest = ${LOWEST};
  for (var i = local; i * 4u < end; i += ${invocations}u) {
    let four = scores[first + i];
    for (var j = 0u; j < 4u; j++) { if (i * 4u + j < end) { largest = max(largest, ordered(four[j])); } }
  }
  workgroup_scan_sums[local] = largest;
  workgroupBarrier();
  for (var step = ${invocations / 2}u; step > 0u; step /= 2u) {
    if (local < step) { workgroup_scan_sums[local] = max(workgroup_scan_sums[local], workgroup_scan_sums[local + step]); }
    workgroupBarrier();
  }
  largest = workgroup_scan_sums[0];

  // Weights, in place, and their sums.
  var sum = 0.0;
  var forced_sum = 0.0;
  for (var i = local; i * 4u < end; i += ${invocations}u) {
    var four = scores[first + i];
    for (var j = 0u; j < 4u; j++) {
      let score = ordered(four[j]);
      // Only NaN and what is not there are exactly the lowest number.
      four[j] = select(exp(max(score - largest, -1000.0)), 0.0, score == ${LOWEST} || i * 4u + j >= end);
      sum += four[j];
      if (is_forced(i * 4u + j, end)) { forced_sum += four[j]; }
    }
    scores[first + i] = four;
  }
  workgroup_scan(local, forced_sum);
  let forced = workgroup_scan_total();
  workgroup_scan(local, sum);
  let missing = p * workgroup_scan_total() - forced;

  // Digits of the cut: bits 18 … 31, then 9 and 9 more.
  let units = missing * 0x1p12;
  let wanted = carried(vec2<u32>(u32(max(units, 0.0)), u32(ceil(fract(max(units, 0.0)) * 0x1p12))));
  var above = vec2<u32>();
  var known = 0u; // digits so far
  var found = true;
  for (var step = 0u; step < 3u; step++) {
    let shift = 18u - 9u * step;
    for (var i = local; i < BINS; i += ${invocations}u) {
      atomicStore(&low_mass[i], 0u);
      atomicStore(&high_mass[i], 0u);
    }
    if (local == 0u) { digit_at_cut = BINS; }
    workgroupBarrier();
    ${indent(
      eachWeight(`\
let value = bitcast<u32>(weight);
let bin = select((value >> shift) & 511u, (value >> 18u) - LEAST, step == 0u);
if ((value >> 18u) >= LEAST && (step == 0u || (value >> (shift + 9u)) == known)) {
  let mass = u32(weight * 0x1p24);
  atomicAdd(&low_mass[bin], mass & 0xfffu);
  atomicAdd(&high_mass[bin], mass >> 12u);
}`),
      6,
    )}
    workgroupBarrier();
    // From the top: invocation i has the ${binsEach} below BINS − ${binsEach} i.
    let top = BINS - ${binsEach}u * local;
    var own = vec2<u32>();
    for (var i = 1u; i <= ${binsEach}u; i++) { own += vec2<u32>(atomicLoad(&high_mass[top - i]), atomicLoad(&low_mass[top - i])); }
    let high = count_scan(local, own.x);
    let low = count_scan(local, own.y);
    var reached = carried(above + vec2<u32>(high, low) - own);
    for (var i = 1u; i <= ${binsEach}u; i++) {
      let after = carried(reached + vec2<u32>(atomicLoad(&high_mass[top - i]), atomicLoad(&low_mass[top - i])));
      if (is_less(reached, wanted) && !is_less(after, wanted)) {
        digit_at_cut = top - i;
        mass_above = reached;
      }
      reached = after;
    }
    workgroupBarrier();
    // Nothing is found where the forced tokens suffice, and where too little is left after rounding.
    if (digit_at_cut == BINS) { found = false; }
    above = mass_above;
    known = select((known << 9u) | digit_at_cut, digit_at_cut + LEAST, step == 0u);
    workgroupBarrier();
  }
  var cut = select(select(0u, 0x7f800000u, missing <= 0.0), known, found);
  if (p >= 1.0 || largest == ${LOWEST}) { cut = 0u; }

  for (var tile = 0u; tile * 4u < end; tile += ${invocations}u) {
    let i = tile + local;
    if (local < ${invocations / 8}u) { atomicStore(&words[local], 0u); }
    workgroupBarrier();
    if (i * 4u < end) {
      let four = bitcast<vec4<u32>>(scores[first + i]);
      var kept = 0u;
      for (var j = 0u; j < 4u; j++) {
        let position = i * 4u + j;
        if (position < end && (four[j] >= cut || is_forced(position, end))) { kept |= 1u << j; }
      }
      atomicOr(&words[local / 8u], kept << (4u * (local % 8u)));
    }
    workgroupBarrier();
    let word = tile / 8u + local;
    if (local < ${invocations / 8}u && word * 32u < end) { bits[row * ((u.capacity * u.page_size + 31u) / 32u) + word] = atomicLoad(&words[local]); }
    workgroupBarrier();
  }
}
`
  return {
    label: 'prune-top-p',
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: invocations,
    workgroupBytes: 2 * 1024 * 4 + 16 + invocations / 2 + 2 * scanBytesOf(invocations),
  }
}
