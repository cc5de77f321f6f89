import { createRuntime } from '@sparse-attention/core'
import { expect, test } from 'vitest'

// The smallest whole trip: adapter, device, compile, dispatch, read back. When this fails, look at the machine first.
test('a kernel runs on the adapter found and its result is read back', async () => {
  using runtime = await createRuntime()
  const { device } = runtime
  const code = `
    @group(0) @binding(0) var<storage, read_write> squares: array<u32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < arrayLength(&squares)) { squares[id.x] = id.x * id.x; }
    }`
  const pipeline = await device.createComputePipelineAsync({
    layout: 'auto',
    compute: { module: device.createShaderModule({ code }) },
  })
  const bytes = 100 * 4
  const squares = device.createBuffer({ size: bytes, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC })
  const staging = device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
  const encoder = device.createCommandEncoder()
  const pass = encoder.beginComputePass()
  pass.setPipeline(pipeline)
  pass.setBindGroup(
    0,
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer: squares } }],
    }),
  )
  pass.dispatchWorkgroups(2)
  pass.end()
  encoder.copyBufferToBuffer(squares, 0, staging, 0, bytes)
  device.queue.submit([encoder.finish()])
  await staging.mapAsync(GPUMapMode.READ)
  expect([...new Uint32Array(staging.getMappedRange())]).toEqual(Array.from({ length: 100 }, (_, i) => i * i))
})
