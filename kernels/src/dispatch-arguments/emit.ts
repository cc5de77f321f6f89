import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'

export const dispatchArgumentsUniforms = { index: 'u32', per_workgroup: 'u32', depth: 'u32' } as const

/** Workgroups to dispatch for a count that only the GPU knows: a single invocation. */
export function emitDispatchArguments(): KernelSource {
  const code = `\
// arguments = [x, y, depth]: workgroups for counts[index] items, per_workgroup each. x · y is enough of them; beyond 65535, the
// most of one axis, they continue in y, and the last row has some to spare. None for a count of 0 or less.
${uniformStruct('Uniforms', dispatchArgumentsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> counts: array<i32>;
@group(0) @binding(2) var<storage, read_write> arguments: array<u32>;

@compute @workgroup_size(1)
fn main() {
  let count = u32(max(counts[u.index], 0));
  let workgroups = count / u.per_workgroup + select(0u, 1u, count % u.per_workgroup != 0u);
  arguments[0] = min(workgroups, 65535u);
  arguments[1] = (workgroups + 65534u) / 65535u;
  arguments[2] = u.depth;
}
`
  return {
    label: 'dispatch-arguments',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 1,
    workgroupBytes: 0,
  }
}
