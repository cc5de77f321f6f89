import type { KernelSource } from '@sparse-attention/core'
import { pageTableFunctions, pageTableUniforms } from '../shared/pages.js'
import { uniformStruct } from '../shared/uniforms.js'

export const sinkWindowListsUniforms = {
  ...pageTableUniforms,
  heads: 'u32',
  rows: 'u32',
  sink: 'u32',
  window: 'u32',
} as const

/** Sinks and a window of each sequence, as the two lists of a stripe plan: one invocation a row. */
export function emitSinkWindowLists(): KernelSource {
  const code = `\
// The first sink tokens of a sequence and its last window: an entry each, of the two lists of a stripe plan. Where they meet, the
// window starts after the sinks; where the sinks are all there is, it is empty.
//
// counts i32[2, B, heads]; indices i32[2, B, heads, 1]. One invocation a row of B · heads.
${uniformStruct('Uniforms', sinkWindowListsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<i32>;
@group(0) @binding(3) var<storage, read_write> indices: array<i32>;

${pageTableFunctions}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= u.rows) { return; }
  let keys = key_count(id.x / u.heads);
  let first = max(u.sink, keys - min(keys, u.window));
  let has_window = first < keys;
  counts[id.x] = select(0, 1, keys > 0u);
  indices[id.x] = select(-1, 0, keys > 0u);
  counts[u.rows + id.x] = select(0, 1, has_window);
  indices[u.rows + id.x] = select(-1, i32(first), has_window);
}
`
  return {
    label: 'sink-window-lists',
    code,
    bindings: ['uniform', 'read', 'read_write', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}
