import type { KernelSource } from '@sparse-attention/core'
import { sortKeyFunction } from '../shared/sort-key.js'
import { uniformStruct } from '../shared/uniforms.js'
import { indent, range } from '../shared/wgsl.js'
import { scanBytes, workgroupScanFunction } from '../shared/workgroup-scan.js'

/** Of the first list and of the second: what differs. */
const ofList = <N extends 0 | 1>(n: N) =>
  ({
    /** Entries kept whatever their score. */
    [`forced_${n}`]: 'u32',
    /** k of all heads; or, where `from_table`, that of head h is top_ks[first_k + h % table_heads]. */
    [`top_k_${n}`]: 'u32',
    [`from_table_${n}`]: 'u32',
    [`first_k_${n}`]: 'u32',
    [`table_heads_${n}`]: 'u32',
    [`capacity_${n}`]: 'u32',
  }) as Record<`${'forced' | 'top_k' | 'from_table' | 'first_k' | 'table_heads' | 'capacity'}_${N}`, 'u32'>

export const selectListsUniforms = {
  length: 'u32',
  /** From the counts of the first list to those of the second. */
  counts_stride: 'u32',
  ...ofList(0),
  ...ofList(1),
} as const

const INVOCATIONS = 256

/** Entries that an invocation has on the way at once: memory answers late, and a head has one workgroup. */
const EACH = 8

/** Copies of the histogram: neighbouring invocations often count the same digit. */
const COPIES = 8

/** Top-k selection of the entries of long rows, as lists: one workgroup a row. */
export function emitSelectLists(): KernelSource {
  const each = (line: (i: number) => string) => range(EACH).map(line).join('\n')
  const chunk = INVOCATIONS * EACH
  const words = chunk / 32
  /** Declares `entry_i` and `key_i` for entries from `first` on. */
  const loadKeys = `\
${each((i) => `let entry_${i} = first + ${i * INVOCATIONS}u + local;`)}
${each((i) => `let bits_${i} = score_bits(list, start + min(entry_${i}, u.length - 1u));`)}
${each((i) => `let key_${i} = select(sort_key(bits_${i}), NOTHING, entry_${i} < forced);`)}`
  const code = `\
// The k entries of largest score of each head, ascending: the first \`forced\` whatever their score, then others, ties to the
// lower index. NaN counts as −∞.
//
// Of one list, or of two: scores f32 [heads, length]; counts i32[heads]; indices i32[heads, capacity], padded with −1.
//
// No sort: scores become u32 keys of the same order, and the key at the cut is found digit by digit from the top, 8 bits a
// step, each a histogram of the keys that share the digits so far. One workgroup of ${INVOCATIONS} a head (x) and list (y).
${uniformStruct('Uniforms', selectListsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores_0: array<u32>; // bits of f32, so that NaN and −0 arrive as they are
@group(0) @binding(2) var<storage, read> scores_1: array<u32>;
@group(0) @binding(3) var<storage, read> top_ks_0: array<f32>; // rounded down
@group(0) @binding(4) var<storage, read> top_ks_1: array<f32>;
@group(0) @binding(5) var<storage, read_write> counts: array<i32>; // [list][head], lists counts_stride apart
@group(0) @binding(6) var<storage, read_write> indices_0: array<i32>;
@group(0) @binding(7) var<storage, read_write> indices_1: array<i32>;

const NOTHING = 0xffffffffu; // above the key of every score

var<workgroup> bins: array<atomic<u32>, ${256 * COPIES}>; // [digit][copy]
var<workgroup> above_bits: array<atomic<u32>, ${words}>;
var<workgroup> tie_bits: array<atomic<u32>, ${words}>;
var<workgroup> before_word: array<vec2<u32>, ${words}>; // entries above the cut, and ties
var<workgroup> digit_at_cut: u32;
var<workgroup> found_above: u32;

${sortKeyFunction}

${workgroupScanFunction('u32')}

fn score_bits(list: u32, at: u32) -> u32 {
  if (list == 0u) { return scores_0[at]; }
  return scores_1[at];
}

fn top_k_of(list: u32, head: u32) -> u32 {
  if (list == 0u) {
    if (u.from_table_0 == 0u) { return u.top_k_0; }
    return u32(top_ks_0[u.first_k_0 + head % u.table_heads_0]);
  }
  if (u.from_table_1 == 0u) { return u.top_k_1; }
  return u32(top_ks_1[u.first_k_1 + head % u.table_heads_1]);
}

fn put(list: u32, at: u32, entry: i32) {
  if (list == 0u) { indices_0[at] = entry; } else { indices_1[at] = entry; }
}

@compute @workgroup_size(${INVOCATIONS})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let head = workgroup.x;
  let list = workgroup.y;
  let start = head * u.length;
  let forced = select(u.forced_0, u.forced_1, list == 1u);
  let capacity = select(u.capacity_0, u.capacity_1, list == 1u);
  let wanted = min(min(max(top_k_of(list, head), forced), u.length), capacity);

  // The key of the wanted-th entry, and how many are above it.
  var cut = 0u;
  var above = 0u;
  for (var step = 0u; step < 4u; step++) {
    let shift = 24u - 8u * step;
    let known = select(0xffffffffu << (shift + 8u), 0u, step == 0u);
    for (var i = local; i < ${256 * COPIES}u; i += ${INVOCATIONS}u) { atomicStore(&bins[i], 0u); }
    workgroupBarrier();
    for (var first = 0u; first < u.length; first += ${chunk}u) {
      ${indent(loadKeys, 6)}
      ${indent(
        each(
          (i) =>
            `if (entry_${i} < u.length && (key_${i} & known) == cut) { atomicAdd(&bins[((key_${i} >> shift) & 255u) * ${COPIES}u + local % ${COPIES}u], 1u); }`,
        ),
        6,
      )}
    }
    workgroupBarrier();
    // From the largest digit down.
    let digit = 255u - local;
    var own = 0u;
    for (var i = 0u; i < ${COPIES}u; i++) { own += atomicLoad(&bins[digit * ${COPIES}u + i]); }
    let reached = above + workgroup_scan(local, own);
    if (reached - own < wanted && reached >= wanted) {
      digit_at_cut = digit;
      found_above = reached - own;
    }
    workgroupBarrier();
    cut |= digit_at_cut << shift;
    above = found_above;
  }
  if (wanted == 0u) { cut = NOTHING; }
  let room = wanted - min(above, wanted); // for ties

  // Entries above the cut, and the first ties, in order.
  var before = vec2<u32>(); // above the cut, and ties
  for (var first = 0u; first < u.length; first += ${chunk}u) {
    workgroupBarrier();
    if (local < ${words}u) {
      atomicStore(&above_bits[local], 0u);
      atomicStore(&tie_bits[local], 0u);
    }
    ${indent(loadKeys, 4)}
    workgroupBarrier();
    let bit = 1u << (local % 32u);
    ${indent(
      each(
        (i) => `\
if (entry_${i} < u.length && key_${i} > cut) { atomicOr(&above_bits[${(i * INVOCATIONS) / 32}u + local / 32u], bit); }
if (entry_${i} < u.length && key_${i} == cut) { atomicOr(&tie_bits[${(i * INVOCATIONS) / 32}u + local / 32u], bit); }`,
      ),
      4,
    )}
    workgroupBarrier();
    // Both counts fit 16 bits.
    var own = 0u;
    if (local < ${words}u) { own = countOneBits(atomicLoad(&above_bits[local])) | (countOneBits(atomicLoad(&tie_bits[local])) << 16u); }
    let sums = workgroup_scan(local, own) - own;
    if (local < ${words}u) { before_word[local] = before + vec2<u32>(sums & 0xffffu, sums >> 16u); }
    workgroupBarrier();
    ${indent(
      each(
        (i) => `\
{
  let word = ${(i * INVOCATIONS) / 32}u + local / 32u;
  let ties = before_word[word].y + countOneBits(atomicLoad(&tie_bits[word]) & (bit - 1u));
  let place = before_word[word].x + countOneBits(atomicLoad(&above_bits[word]) & (bit - 1u)) + min(ties, room);
  if (entry_${i} < u.length && (key_${i} > cut || (key_${i} == cut && ties < room))) { put(list, head * capacity + place, i32(entry_${i})); }
}`,
      ),
      4,
    )}
    let all = workgroup_scan_total();
    before += vec2<u32>(all & 0xffffu, all >> 16u);
  }
  for (var i = wanted + local; i < capacity; i += ${INVOCATIONS}u) { put(list, head * capacity + i, -1); }
  if (local == 0u) { counts[list * u.counts_stride + head] = i32(wanted); }
}
`
  return {
    label: 'select-lists',
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read', 'read_write', 'read_write', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: 4 * 256 * COPIES + 16 * words + 8 + scanBytes,
  }
}
