import type { KernelSource } from '@sparse-attention/core'
import { pageTableFunctions, pageTableUniforms } from '../shared/pages.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'

export const appendPagesUniforms = {
  ...pageTableUniforms,
  ...addressFields('k'),
  ...addressFields('v'),
  /** New tokens of a sequence, and 16-byte units of a token. */
  rows: 'u32',
  units: 'u32',
  first_sequence: 'u32',
} as const

/** Copies new keys and values into the pages of their sequences: any dtype, 16 bytes of both an invocation. */
export function emitAppendPages(): KernelSource {
  const code = `\
// pool[h, page of token t, t % page_size] = new[b, h, i], for the last rows tokens t of each sequence: the table counts them already.
//
// Axes: k and v [sequences, Hkv, rows, D], strided; pools [Hkv, pages, page_size, D], contiguous. All in units of 16 bytes.
//
// Invocations take one unit after another of a head; workgroups (any number, Hkv, sequences).
${uniformStruct('Uniforms', appendPagesUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> k_pool: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> v_pool: array<vec4<u32>>;

${pageTableFunctions}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let sequence = u.first_sequence + workgroup.z;
  let held = key_count(sequence) - u.rows;
  let from_k = u.k_offset + workgroup.z * u.k_batch_stride + workgroup.y * u.k_head_stride;
  let from_v = u.v_offset + workgroup.z * u.v_batch_stride + workgroup.y * u.v_head_stride;
  for (var i = workgroup.x * 64u + local; i < u.rows * u.units; i += workgroups.x * 64u) {
    let row = i / u.units;
    let token = held + row;
    let page = workgroup.y * u.pool_pages + page_of(sequence, token / u.page_size);
    let to = (page * u.page_size + token % u.page_size) * u.units + i % u.units;
    k_pool[to] = k[from_k + row * u.k_row_stride + i % u.units];
    v_pool[to] = v[from_v + row * u.v_row_stride + i % u.units];
  }
}
`
  return {
    label: 'append-pages',
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}

export const copyPageUniforms = { source: 'u32', target_page: 'u32', units: 'u32', pool_pages: 'u32' } as const

/** Copies what is kept of one page to another, for every KV head. */
export function emitCopyPage(): KernelSource {
  const code = `\
// data[h, target_page] = data[h, source]; data [Hkv, pool_pages, units], in units of 4 bytes. Workgroups (units / 64, Hkv).
${uniformStruct('Uniforms', copyPageUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> data: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = workgroup.x * 64u + local;
  if (i >= u.units) { return; }
  let head = workgroup.y * u.pool_pages;
  data[(head + u.target_page) * u.units + i] = data[(head + u.source) * u.units + i];
}
`
  return {
    label: 'copy-page',
    code,
    bindings: ['uniform', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}

export const setLengthUniforms = { word: 'u32', length: 'u32' } as const

/** Writes the length of one sequence into a page table. */
export function emitSetLength(): KernelSource {
  const code = `\
// table[word] = length.
${uniformStruct('Uniforms', setLengthUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> table: array<u32>;

@compute @workgroup_size(1)
fn main() { table[u.word] = u.length; }
`
  return { label: 'set-length', code, bindings: ['uniform', 'read_write'], workgroupSize: 1, workgroupBytes: 0 }
}

export const plainTableUniforms = { keys: 'u32', width: 'u32', kv_heads: 'u32', batch: 'u32' } as const

/** The page table of keys that lie in one tensor. */
export function emitPlainTable(): KernelSource {
  const code = `\
// table[b] = [keys, b · kv_heads · width + 0, … + width − 1], so that page n of KV head h of a pool of width pages lies where
// row b · kv_heads + h of an array [B · Hkv, width, …] has its n-th. One invocation a word.
${uniformStruct('Uniforms', plainTableUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> table: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let word = workgroup.x * 64u + local;
  if (word > u.width) { return; }
  let first = workgroup.y * u.kv_heads * u.width;
  table[workgroup.y * (u.width + 1u) + word] = select(first + word - 1u, u.keys, word == 0u);
}
`
  return { label: 'plain-page-table', code, bindings: ['uniform', 'read_write'], workgroupSize: 64, workgroupBytes: 0 }
}
