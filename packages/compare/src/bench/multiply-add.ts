import type { KernelSource } from '@sparse-attention/core'

/** Chains of each invocation: enough of them to hide the latency of each. */
export const chains = 8

/** Multiply-adds in independent chains of vec4: the most arithmetic that a device can be kept busy with. */
export function multiplyAddSource(steps: number): KernelSource {
  const each = Array.from({ length: chains }, (_, i) => i)
  return {
    label: 'multiply-add',
    code: `\
// ${chains} chains of ${steps} multiply-adds on vec4<f32> an invocation, and nothing else. The numbers stay small.
@group(0) @binding(0) var<storage, read> factors: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let factor = factors[0];
  let term = factors[1] + vec4<f32>(f32(id.x & 1u));
  ${each.map((i) => `var x${i} = term * ${i}.0;`).join(' ')}
  for (var step = 0u; step < ${steps}u; step++) {
    ${each.map((i) => `x${i} = fma(x${i}, factor, term);`).join(' ')}
  }
  sums[id.x] = ${each.map((i) => `x${i}`).join(' + ')};
}
`,
    bindings: ['read', 'read_write'],
    workgroupSize: 256,
    workgroupBytes: 0,
  }
}
