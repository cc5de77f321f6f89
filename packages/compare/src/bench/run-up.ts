import type { Kernel, OwnedTensor, Runtime } from '@sparse-attention/core'
import { multiplyAddSource } from './multiply-add.js'

const invocationsPerWorkgroup = 256

/**
 * Arithmetic that a GPU does before something is timed. A GPU lowers its clocks in any pause, and how far it raises them
 * again depends on what it is given: a kernel that waits for memory may never bring them up by itself.
 */
export class RunUp implements Disposable {
  readonly #kernel: Kernel
  readonly #group: GPUBindGroup
  readonly #tensors: readonly OwnedTensor[]
  readonly #workgroups: number

  private constructor(kernel: Kernel, group: GPUBindGroup, tensors: readonly OwnedTensor[], workgroups: number) {
    this.#kernel = kernel
    this.#group = group
    this.#tensors = tensors
    this.#workgroups = workgroups
  }

  static async for(runtime: Runtime): Promise<RunUp> {
    // Short enough on a slow GPU, long enough on a fast one that starting it costs little: 8 · 10⁹ operations.
    const [steps, workgroups] = runtime.software ? [16, 4] : [256, 2048]
    const kernel = await runtime.kernel(multiplyAddSource(steps))
    const factors = runtime.tensor('f32', [8], Float32Array.of(0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25))
    const sums = runtime.tensor('f32', [workgroups * invocationsPerWorkgroup * 4])
    const tensors = [factors, sums]
    const entries = tensors.map(({ buffer }, binding) => ({ binding, resource: { buffer } }))
    const group = runtime.device.createBindGroup({ layout: kernel.bindGroupLayout, entries })
    return new RunUp(kernel, group, tensors, workgroups)
  }

  /** Records it so many times, as one pass. */
  record(encoder: GPUCommandEncoder, times: number): void {
    const pass = encoder.beginComputePass()
    pass.setPipeline(this.#kernel.pipeline)
    pass.setBindGroup(0, this.#group)
    for (let i = 0; i < times; i++) pass.dispatchWorkgroups(this.#workgroups)
    pass.end()
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#tensors) tensor.dispose()
  }
}
