import { createRuntime, type KernelSource, type Runtime } from '@sparse-attention/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { gridUniforms, workgroupNumberFunction, workgroupRanges } from './grid.js'
import { firstDifference, testMemory } from './test-memory.js'
import { packUniforms, uniformStruct } from './uniforms.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Counts how often each workgroup number comes up: one invocation a workgroup. */
const counter: KernelSource = {
  label: 'count-workgroups',
  code: `\
${uniformStruct('Uniforms', gridUniforms)}
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;
${workgroupNumberFunction}
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  atomicAdd(&counts[number], 1u);
}
`,
  bindings: ['uniform', 'read_write'],
  workgroupSize: 1,
  workgroupBytes: 0,
}

test('every workgroup of a grid over two axes, cut in two, has a number of its own', async () => {
  const total = 70_000
  using memory = testMemory(runtime)
  const kernel = await runtime.kernel(counter)
  const counts = memory.words(total + 1)
  const ranges = workgroupRanges(total, 1, 66_000)
  expect(ranges.map(({ workgroups }) => workgroups)).toEqual([
    [65535, 2, 1],
    [4000, 1, 1],
  ])
  await memory.submit(
    ranges.map(({ uniforms, workgroups }) => ({
      kernel,
      bindings: [runtime.uniforms.get(packUniforms(gridUniforms, uniforms)), counts],
      workgroups,
      cost: { operations: 0, bytes: 0 },
    })),
  )
  expect(firstDifference(await memory.read(counts), [...new Array(total).fill(1), 0])).toBe(-1)
})
