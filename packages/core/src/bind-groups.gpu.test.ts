import { createRuntime, type Runtime, recordDispatches } from '@sparse-attention/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { config, disposeAll, expectedResult, makeTensors, scaledCopy } from './test-support.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Counts bind groups made while `work` runs. */
async function countGroups(work: () => Promise<void>): Promise<number> {
  const { device } = runtime
  const { createBindGroup } = device
  let made = 0
  device.createBindGroup = (descriptor) => {
    made++
    return createBindGroup.call(device, descriptor)
  }
  try {
    await work()
  } finally {
    device.createBindGroup = createBindGroup
  }
  return made
}

test('calls on the same tensors bind nothing anew; numbers written between them are seen', async () => {
  using attention = await runtime.use(scaledCopy(), config)
  const tensors = {
    ...makeTensors(runtime),
    out: runtime.tensor('f32', [2, 4, 10, 8]),
    lse: runtime.tensor('f32', [2, 4, 10]),
  }
  const call = async (first: number) => {
    runtime.device.queue.writeBuffer(
      tensors.q.buffer,
      0,
      Float32Array.from({ length: 640 }, (_, i) => first + i),
    )
    await attention.run(tensors)
    expect([...(await runtime.read(tensors.out))]).toEqual(expectedResult(first, 2).out)
  }
  expect(await countGroups(() => call(1))).toBe(10)
  const again = await countGroups(async () => {
    for (let first = 2; first < 20; first++) await call(first)
  })
  expect(again).toBe(0)
  disposeAll(tensors)
})

test('a buffer made after another was destroyed is bound itself', async () => {
  using attention = await runtime.use(scaledCopy(), config)
  for (let first = 1; first < 12; first++) {
    const tensors = makeTensors(runtime, first)
    const result = await attention.run(tensors)
    expect([...(await runtime.read(result.out))]).toEqual(expectedResult(first, 2).out)
    disposeAll({ ...tensors, ...result })
  }
})

test('a destroyed buffer, or one of another device, is refused each time', async () => {
  using other = await createRuntime()
  using attention = await runtime.use(scaledCopy(), config)
  const [destroyed, foreign] = [makeTensors(runtime), makeTensors(other)]
  const right = await attention.run(destroyed)
  disposeAll({ ...destroyed, ...right })
  for (const tensors of [destroyed, foreign]) {
    for (let time = 0; time < 2; time++) {
      await expect(attention.run(tensors)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
  }
  disposeAll(foreign)
})

test('recording a pass takes the groups of its device', async () => {
  const kernel = await runtime.kernel({
    label: 'count-up',
    code: '@group(0) @binding(0) var<storage, read_write> x: array<u32>;\n@compute @workgroup_size(1) fn main() { x[0] += 1u; }\n',
    bindings: ['read_write'],
    workgroupSize: 1,
    workgroupBytes: 0,
  })
  using counter = runtime.tensor('f32', [4])
  const bindings = [{ buffer: counter.buffer, offsetBytes: 0, sizeBytes: 16 }]
  const dispatch = { kernel, bindings, workgroups: [1, 1, 1], cost: { operations: 1, bytes: 4 } } as const
  const made = await countGroups(async () => {
    for (let i = 0; i < 3; i++) {
      const encoder = runtime.device.createCommandEncoder()
      recordDispatches(runtime.device, encoder, [dispatch, dispatch])
      runtime.device.queue.submit([encoder.finish()])
    }
    const bytes = await runtime.readBytes({ buffer: counter.buffer, offsetBytes: 0, sizeBytes: 4 })
    expect(new Uint32Array(bytes)[0]).toBe(6)
  })
  expect(made).toBe(1)
})
