import { createRuntime, type Runtime } from '@sparse-attention/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { recordTape, sameTapes, tapeDispatches } from './dispatch-tape.js'

const STORAGE_COPY = 0x80 | 0x04 | 0x08
const INDIRECT_COPY = 0x100 | 0x08

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Adds numbers to four counters: what each dispatch does shows, and how often. */
async function counters() {
  const { device } = runtime
  const pipelines = [1, 10].map((step) =>
    device.createComputePipeline({
      layout: 'auto',
      compute: {
        module: device.createShaderModule({
          code: `@group(0) @binding(0) var<storage, read_write> counts: array<u32>;
                 @compute @workgroup_size(1) fn main(@builtin(workgroup_id) id: vec3u) { counts[id.x + 2 * id.y] += ${step}; }`,
        }),
      },
    }),
  )
  const buffer = device.createBuffer({ size: 16, usage: STORAGE_COPY })
  const groups = pipelines.map((pipeline) =>
    device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] }),
  )
  const dispatch = (pass: GPUComputePassEncoder, which: number, ...workgroups: [number, number?, number?]) => {
    pass.setPipeline(pipelines[which]!)
    pass.setBindGroup(0, groups[which]!)
    pass.dispatchWorkgroups(...workgroups)
  }
  return {
    buffer,
    dispatch,
    /** Two encoders, three dispatches. */
    async work() {
      const first = device.createCommandEncoder()
      const pass = first.beginComputePass()
      dispatch(pass, 0, 2, 2)
      dispatch(pass, 1, 1)
      pass.end()
      const second = device.createCommandEncoder()
      const last = second.beginComputePass()
      dispatch(last, 1, 3)
      last.end()
      device.queue.submit([first.finish(), second.finish()])
    },
    read: async () => [...new Uint32Array(await runtime.readBytes({ buffer, offsetBytes: 0, sizeBytes: 16 }))],
    [Symbol.dispose]: () => buffer.destroy(),
  }
}

test('what was taped is recorded again, in order, into one pass', async () => {
  using counted = await counters()
  const { device } = runtime
  const tape = await tapeDispatches(device, counted.work)
  expect(tape!.map(({ workgroups }) => workgroups)).toEqual([[2, 2], [1], [3]])
  expect(await counted.read()).toEqual([21, 11, 11, 1])
  const encoder = device.createCommandEncoder()
  recordTape(encoder, tape!)
  device.queue.submit([encoder.finish()])
  expect(await counted.read()).toEqual([42, 22, 22, 2])
  expect(sameTapes(tape!, (await tapeDispatches(device, counted.work))!)).toBe(true)
  expect(sameTapes(tape!, tape!.slice(1))).toBe(false)
  expect(sameTapes(tape!, tape!.with(0, { ...tape![0]!, workgroups: [2, 1] }))).toBe(false)
  expect(sameTapes(tape!, tape!.with(0, { ...tape![0]!, group: tape![1]!.group }))).toBe(false)
})

test('work that does more than dispatch is not taped', async () => {
  using counted = await counters()
  const { device } = runtime
  const { buffer, dispatch } = counted
  const sizes = device.createBuffer({ size: 16, usage: INDIRECT_COPY })
  const encoded = (encode: (encoder: GPUCommandEncoder) => void) => async () => {
    const encoder = device.createCommandEncoder()
    encode(encoder)
    device.queue.submit([encoder.finish()])
  }
  const passed = (record: (pass: GPUComputePassEncoder) => void) =>
    encoded((encoder) => {
      const pass = encoder.beginComputePass()
      record(pass)
      pass.end()
    })
  const other: Record<string, () => Promise<void>> = {
    'a write': async () => device.queue.writeBuffer(buffer, 0, new Uint32Array(4)),
    'a copy': encoded((encoder) => encoder.copyBufferToBuffer(buffer, 0, sizes, 0, 4)),
    'a clear': encoded((encoder) => encoder.clearBuffer(buffer)),
    'a dispatch of a size that the GPU tells': passed((pass) => {
      dispatch(pass, 0, 1)
      pass.dispatchWorkgroupsIndirect(sizes, 0)
    }),
    'a group at another index': passed((pass) => {
      dispatch(pass, 0, 1)
      pass.setBindGroup(1, null)
    }),
  }
  for (const [what, work] of Object.entries(other)) {
    expect(await tapeDispatches(device, work), what).toBe(undefined)
  }
  sizes.destroy()
})

test('the device is as it was, also when the work fails', async () => {
  using counted = await counters()
  const { device } = runtime
  const before = [device, device.queue].map((object) => Object.getOwnPropertyDescriptors(object))
  await tapeDispatches(device, counted.work)
  const failing = tapeDispatches(device, async () => {
    throw new Error('no')
  })
  await expect(failing).rejects.toThrow('no')
  expect([device, device.queue].map((object) => Object.getOwnPropertyDescriptors(object))).toEqual(before)
  const tape = await tapeDispatches(device, async () => {})
  await counted.work()
  expect(tape).toEqual([])
})
