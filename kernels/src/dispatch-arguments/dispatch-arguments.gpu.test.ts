import { createRuntime, defineMethod, type KernelSource, type Runtime } from '@sparse-attention/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { dense } from '../dense/method.js'
import { testMemory } from '../shared/test-memory.js'
import { dispatchArguments } from './dispatch-arguments.js'
import { dispatchArgumentsReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Adds 1 to the word of each workgroup's number that lies inside. */
const counting: KernelSource = {
  label: 'counting',
  code: `
@group(0) @binding(0) var<storage, read_write> hits: array<u32>;

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3<u32>) {
  let number = id.y * 65535u + id.x;
  if (number < arrayLength(&hits)) { hits[number]++; }
}`,
  bindings: ['read_write'],
  workgroupSize: 1,
  workgroupBytes: 0,
}

test.each([
  [5, 1, 1],
  [0, 4, 1],
  [-1, 64, 1],
  [64, 64, 3],
  [65, 64, 1],
  [65535, 1, 1],
  [65536, 1, 2],
  [2 ** 31 - 1, 1, 1],
])('arguments for %i items, %i a workgroup, depth %i', async (count, perWorkgroup, depth) => {
  using memory = testMemory(runtime)
  const record = await dispatchArguments(runtime)
  const target = memory.words(4)
  const counts = memory.words(Int32Array.of(99, 98, count, 97))
  await memory.submit([record(counts, target, { index: 2, perWorkgroup, depth })])
  const [x, y, z, after] = await memory.read(target)
  expect([x, y, z]).toEqual(dispatchArgumentsReference(count, perWorkgroup, depth))
  expect(after).toBe(0)
  expect(x! * y!).toBeGreaterThanOrEqual(Math.ceil(Math.max(0, count) / perWorkgroup))
  expect(() => record(counts, target, { index: 4 })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})

/** A method that computes nothing: its attend runs as many workgroups as a count on the GPU says. */
const follower = (count: number) =>
  defineMethod<Record<never, never>>({
    ...dense.definition,
    id: 'follower',
    async create(made) {
      const [record, kernel] = await Promise.all([dispatchArguments(made), made.kernel(counting)])
      const counts = made.tensor('f32', [1], new Float32Array(Int32Array.of(count).buffer))
      return {
        plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }),
        attend(frame) {
          const target = frame.scratch(12)
          const whole = { buffer: counts.buffer, offsetBytes: 0, sizeBytes: counts.buffer.size }
          const out = { buffer: frame.out.buffer, offsetBytes: 0, sizeBytes: frame.out.buffer.size }
          return [
            record(whole, target),
            { kernel, bindings: [out], workgroups: { indirect: target }, cost: { operations: 1, bytes: 4 } },
          ]
        },
        dispose: () => counts.dispose(),
      }
    },
  })

test.each([
  [0, 8],
  [5, 8],
  [65544, 65544],
])('%i workgroups of a dispatch follow the count, in run and in encode', async (count, elements) => {
  const config = { queryHeads: 1, kvHeads: 1, headDim: 8, dtype: 'f32', causal: false } as const
  using attention = await runtime.use(follower(count)(), config)
  const shape = [1, 1, Math.ceil(elements / 8), 8]
  using q = runtime.tensor('f32', shape)
  using k = runtime.tensor('f32', [1, 1, 1, 8])
  using out = runtime.tensor('f32', shape)
  const hits = async () => new Uint32Array((await runtime.read(out)).buffer).filter((n) => n > 0)
  await attention.run({ q, k, v: k, out })
  expect((await hits()).length).toBe(count)
  const encoder = runtime.device.createCommandEncoder()
  attention.encode(encoder, { q, k, v: k, out })
  runtime.device.queue.submit([encoder.finish()])
  const twice = await hits()
  expect(twice.length).toBe(count)
  expect(twice.every((n) => n === 2)).toBe(true)
})
