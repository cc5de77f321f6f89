import { bindGroupsOf } from './bind-groups.js'
import type { BufferSlice } from './tensor.js'

export type BindingKind = 'read' | 'read_write' | 'uniform'

/** What an emitter returns: WGSL, and what the runtime must know to check and bind it. */
export interface KernelSource {
  /** Names the kernel in labels, profiles and errors, e.g. `flash-attention`. */
  readonly label: string
  readonly code: string
  /** In the order of `@binding(0…)`, all in `@group(0)`. */
  readonly bindings: readonly BindingKind[]
  /** Invocations per workgroup, checked against the device's limits before compiling. */
  readonly workgroupSize: number
  /** `var<workgroup>` bytes, likewise. */
  readonly workgroupBytes: number
}

/** A compiled kernel. Made by `runtime.kernel(source)`, shared by everyone who asks for the same source. */
export interface Kernel {
  readonly source: KernelSource
  readonly pipeline: GPUComputePipeline
  readonly bindGroupLayout: GPUBindGroupLayout
}

/** Lower bounds for one dispatch; `run` cuts long work into submits by `operations`. */
export interface Cost {
  /** Floating-point operations, a multiply-add counted as two. */
  readonly operations: number
  /** Bytes of device memory, each input read once and each output written once. */
  readonly bytes: number
}

/** One kernel launch as data: recorded into an encoder later, by `encode`, `encodeParts` or `run`. */
export interface Dispatch {
  readonly kernel: Kernel
  readonly bindings: readonly BufferSlice[]
  /** How many, or where the GPU will find them: u32[3] in scratch, written by a dispatch before this one. */
  readonly workgroups: readonly [x: number, y: number, z: number] | { readonly indirect: BufferSlice }
  readonly cost: Cost
}

/** Records dispatches into an encoder, as one pass: for those of primitives that are used without an attention. */
export function recordDispatches(device: GPUDevice, encoder: GPUCommandEncoder, dispatches: readonly Dispatch[]): void {
  const groups = bindGroupsOf(device)
  const pass = encoder.beginComputePass()
  let last: GPUComputePipeline | undefined
  for (const { kernel, bindings, workgroups } of dispatches) {
    if (kernel.pipeline !== last) pass.setPipeline(kernel.pipeline)
    last = kernel.pipeline
    pass.setBindGroup(0, groups.get(kernel, bindings))
    if ('indirect' in workgroups) {
      pass.dispatchWorkgroupsIndirect(workgroups.indirect.buffer, workgroups.indirect.offsetBytes)
    } else pass.dispatchWorkgroups(...workgroups)
  }
  pass.end()
}
