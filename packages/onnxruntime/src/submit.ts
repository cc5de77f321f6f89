import { guarded, type Runtime } from '@sparse-attention/core'

/** Puts commands into an encoder. */
export type Recorder = (encoder: GPUCommandEncoder) => void

/** Hands an encoder's commands to the GPU. Rejects when the GPU refuses them; nobody has to listen. */
export function submit(runtime: Runtime, label: string, record: Recorder): Promise<void> {
  const { device } = runtime
  return guarded(runtime, () => {
    const encoder = device.createCommandEncoder({ label })
    record(encoder)
    device.queue.submit([encoder.finish()])
  }).check
}
