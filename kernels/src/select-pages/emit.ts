import type { KernelSource } from '@sparse-attention/core'
import { pageTableFunctions, pageTableUniforms } from '../shared/pages.js'
import { sortKeyFunction } from '../shared/sort-key.js'
import { uniformStruct } from '../shared/uniforms.js'
import { indent } from '../shared/wgsl.js'
import { type RowInvocations, scanBytesOf, workgroupScanFunction } from '../shared/workgroup-scan.js'

export const selectPagesUniforms = {
  ...pageTableUniforms,
  /** Lists of a sequence, the length of a row of scores, and of a list. */
  heads: 'u32',
  score_stride: 'u32',
  capacity: 'u32',
  /** Pages that a list holds, at most the capacity, and how many of the first are kept whatever their score. */
  top_k: 'u32',
  sinks: 'u32',
} as const

/** Top-k pages of each row as a list: one workgroup a row. */
export function emitSelectPages(invocations: RowInvocations): KernelSource {
  const binsEach = 2048 / invocations
  /** Statements for the keys of pages 4 · i … that are candidates: `key`, `page`. */
  const eachKey = (statement: string) => `\
for (var i = local; i * 4u < last; i += ${invocations}u) {
  let four = scores[first_score + i];
  for (var j = 0u; j < 4u; j++) {
    let page = i * 4u + j;
    if (page < u.sinks || page >= last) { continue; }
    let key = sort_key(four[j]);
    ${indent(statement, 4)}
  }
}`
  const code = `\
// The pages that each row attends to: its first sinks pages, its last, and those of largest score until it has top_k; ties go to
// the lower page. Rows of at most top_k pages keep them all. (Quest, arXiv 2406.10774, §3.3.)
//
// scores f32 [B, heads, score_stride], any sign; NaN counts as −∞. counts i32[B, heads]; indices i32[B, heads, capacity]: first
// tokens of the pages, ascending, padded with −1.
//
// No sort: scores become u32 keys of the same order, and how far the key at the cut lies above the least is found digit by digit from
// the top, 11 bits of the range at a time, each a histogram of the keys that share the digits so far. One workgroup of ${invocations} a row, four scores at a time.
${uniformStruct('Uniforms', selectPagesUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> scores: array<vec4<u32>>; // bits of f32, so that NaN and −0 arrive as they are
@group(0) @binding(3) var<storage, read_write> counts: array<i32>;
@group(0) @binding(4) var<storage, read_write> indices: array<i32>;

var<workgroup> bins: array<atomic<u32>, 2048>;
var<workgroup> digit_at_cut: u32;
var<workgroup> found_above: u32;
var<workgroup> least: atomic<u32>;
var<workgroup> most: atomic<u32>;

${pageTableFunctions}

${sortKeyFunction}

${workgroupScanFunction('u32', 'workgroup_scan', invocations)}

@compute @workgroup_size(${invocations})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = workgroup.y * u.heads + workgroup.x;
  let first_score = row * u.score_stride / 4u;
  let list = row * u.capacity;
  let pages = (key_count(workgroup.y) + u.page_size - 1u) / u.page_size;
  let kept = min(pages, u.top_k);
  if (local == 0u) { counts[row] = i32(kept); }
  for (var i = kept + local; i < u.capacity; i += ${invocations}u) { indices[list + i] = -1; }
  if (pages <= u.top_k) {
    for (var i = local; i < pages; i += ${invocations}u) { indices[list + i] = i32(i * u.page_size); }
    return;
  }

  // Candidates are pages sinks … last − 1; the key of the wanted-th of them, and how many are above it.
  let last = pages - 1u;
  let wanted = u.top_k - u.sinks - 1u;
  // Scores are much alike in size, so digits are of the range that they lie in: keys then fall into many bins, not few.
  var least_key = 0xffffffffu;
  var most_key = 0u;
  ${indent(eachKey('least_key = min(least_key, key);\nmost_key = max(most_key, key);'), 2)}
  if (local == 0u) {
    atomicStore(&least, 0xffffffffu);
    atomicStore(&most, 0u);
  }
  workgroupBarrier();
  atomicMin(&least, least_key);
  atomicMax(&most, most_key);
  workgroupBarrier();
  let base = atomicLoad(&least);
  var left = 32u - min(countLeadingZeros(max(atomicLoad(&most), base) - base), 32u); // bits of the range not yet known
  var cut = 0u;
  var above = 0u;
  for (var step = 0u; step < 3u; step++) {
    let shift = left - min(left, 11u);
    for (var i = local; i < 2048u; i += ${invocations}u) { atomicStore(&bins[i], 0u); }
    workgroupBarrier();
    ${indent(
      eachKey(`\
let place = key - base;
// A shift by all 32 bits is none in WGSL.
if (left >= 32u || (place >> left) == (cut >> left)) { atomicAdd(&bins[(place - cut) >> shift], 1u); }`),
      4,
    )}
    workgroupBarrier();
    // From the top: invocation i has the ${binsEach} bins below 2048 − ${binsEach} i.
    let top = 2048u - ${binsEach}u * local;
    var own = 0u;
    for (var i = 1u; i <= ${binsEach}u; i++) { own += atomicLoad(&bins[top - i]); }
    var reached = above + workgroup_scan(local, own) - own;
    for (var i = 1u; i <= ${binsEach}u; i++) {
      let count = atomicLoad(&bins[top - i]);
      if (reached < wanted && reached + count >= wanted) {
        digit_at_cut = top - i;
        found_above = reached;
      }
      reached += count;
    }
    workgroupBarrier();
    cut += digit_at_cut << shift;
    above = found_above;
    left = shift;
    workgroupBarrier();
  }
  cut += base;
  if (wanted == 0u) { cut = 0xffffffffu; } // above the key of every score
  let ties_kept = wanted - above;

  for (var i = local; i < u.sinks; i += ${invocations}u) { indices[list + i] = i32(i * u.page_size); }
  if (local == 0u) { indices[list + u.top_k - 1u] = i32(last * u.page_size); }
  // Four pages an invocation, ${4 * invocations} at a time. A page's place: those above the cut before it, and the ties that are kept.
  var before_above = 0u;
  var before_ties = 0u;
  for (var first = 0u; first < last; first += ${4 * invocations}u) {
    let i = first / 4u + local;
    var keys: array<u32, 4>;
    var own = 0u;
    for (var j = 0u; j < 4u; j++) {
      let page = i * 4u + j;
      keys[j] = 0u; // below the cut: the key of a score is never 0
      if (page < u.sinks || page >= last) { continue; }
      keys[j] = sort_key(scores[first_score + i][j]);
      own += select(0u, 0x10000u, keys[j] > cut) + select(0u, 1u, keys[j] == cut);
    }
    let sum = workgroup_scan(local, own);
    var of_above = before_above + ((sum - own) >> 16u);
    var of_ties = before_ties + ((sum - own) & 0xffffu);
    for (var j = 0u; j < 4u; j++) {
      let tie = keys[j] == cut;
      if (keys[j] > cut || (tie && of_ties < ties_kept)) {
        indices[list + u.sinks + of_above + min(of_ties, ties_kept)] = i32((i * 4u + j) * u.page_size);
      }
      of_above += select(0u, 1u, keys[j] > cut);
      of_ties += select(0u, 1u, tie);
    }
    let total = workgroup_scan_total();
    before_above += total >> 16u;
    before_ties += total & 0xffffu;
  }
}
`
  return {
    label: 'select-pages',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: invocations,
    workgroupBytes: 2048 * 4 + 16 + scanBytesOf(invocations),
  }
}
