import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'
import { scanBytes, workgroupScanFunction } from '../shared/workgroup-scan.js'

export const listTokensUniforms = {
  page_size: 'u32',
  group_size: 'u32',
  /** Pages that a list has room for, and words of a row of bits. */
  capacity: 'u32',
  words: 'u32',
} as const

/** The tokens that any query head of a group keeps, as a list: one workgroup a KV head and 256 words of bits. */
export function emitListTokens(): KernelSource {
  const code = `\
// tokens[list] = the tokens of the list's pages whose bit is set for any query head of the KV head, ascending.
//
// page_counts i32[B, Hkv], pages i32[B, Hkv, capacity]: first tokens of pages. bits u32[B, Hq, words]: a bit a token of the list.
// counts i32[B, Hkv]; tokens i32[B, Hkv, capacity · page_size], padded with −1.
//
// Workgroup (256 words, KV head · sequence): a word an invocation, placed after the bits of the words before it, which every
// workgroup counts for itself.
${uniformStruct('Uniforms', listTokensUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> page_counts: array<u32>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> bits: array<u32>;
@group(0) @binding(4) var<storage, read_write> counts: array<i32>;
@group(0) @binding(5) var<storage, read_write> tokens: array<i32>;

${workgroupScanFunction('u32')}

// What any head of the group keeps; nothing past the end of the list.
fn kept(list: u32, word: u32, end: u32) -> u32 {
  if (word * 32u >= end) { return 0u; }
  var union_of_heads = 0u;
  for (var head = 0u; head < u.group_size; head++) { union_of_heads |= bits[(list * u.group_size + head) * u.words + word]; }
  return union_of_heads;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let list = workgroup.y;
  let end = min(page_counts[list], u.capacity) * u.page_size;
  let own_tile = workgroup.x * 256u;
  var before = 0u;
  var after = 0u;
  for (var word = local; word < u.words; word += 256u) {
    let count = countOneBits(kept(list, word, end));
    if (word < own_tile) { before += count; }
    if (word >= own_tile + 256u) { after += count; }
  }
  workgroup_scan(local, before);
  let first = workgroup_scan_total();
  workgroup_scan(local, after);
  let rest = workgroup_scan_total();

  let word = own_tile + local;
  var left = 0u;
  if (word < u.words) { left = kept(list, word, end); }
  let own = countOneBits(left);
  let sum = workgroup_scan(local, own);
  let total = first + workgroup_scan_total() + rest;
  if (workgroup.x == 0u && local == 0u) { counts[list] = i32(total); }
  let start = list * u.capacity * u.page_size;
  var place = start + first + sum - own;
  while (left != 0u) {
    let position = word * 32u + firstTrailingBit(left);
    tokens[place] = i32(pages[list * u.capacity + position / u.page_size] + position % u.page_size);
    place++;
    left &= left - 1u;
  }
  // Each workgroup pads the places of its own words.
  let places = min((own_tile + 256u) * 32u, u.capacity * u.page_size);
  for (var i = max(own_tile * 32u, total) + local; i < places; i += 256u) { tokens[start + i] = -1; }
}
`
  return {
    label: 'list-tokens',
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: 256,
    workgroupBytes: scanBytes,
  }
}
