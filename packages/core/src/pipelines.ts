import type { BindingKind, Kernel, KernelSource } from './dispatch.js'
import { SparseAttentionError } from './errors.js'

const layoutType: Record<BindingKind, GPUBufferBindingType> = {
  read: 'read-only-storage',
  read_write: 'storage',
  uniform: 'uniform',
}

/** Compiled kernels of one device, by source text. Compilation is always asynchronous. */
export class PipelineCache {
  readonly #device: GPUDevice
  readonly #kernels = new Map<string, Promise<Kernel>>()

  constructor(device: GPUDevice) {
    this.#device = device
  }

  /**
   * @throws LIMIT_EXCEEDED when the device's limits are too small for the kernel
   * @throws PIPELINE_FAILED when the driver refuses the shader
   */
  get(source: KernelSource): Promise<Kernel> {
    const known = this.#kernels.get(source.code)
    if (known) return known
    const compiling = this.#compile(source)
    this.#kernels.set(source.code, compiling)
    // A failure is not cached: it may come from a lost device or from memory that is free again later.
    compiling.catch(() => this.#kernels.delete(source.code))
    return compiling
  }

  get size(): number {
    return this.#kernels.size
  }

  async #compile(source: KernelSource): Promise<Kernel> {
    checkLimits(source, this.#device.limits)
    const device = this.#device
    // The shader's own errors arrive here; those of the pipeline only say that it is invalid.
    device.pushErrorScope('validation')
    const bindGroupLayout = device.createBindGroupLayout({
      label: source.label,
      entries: source.bindings.map((kind, binding) => ({
        binding,
        visibility: 4, // GPUShaderStage.COMPUTE; the global may be absent in Node
        buffer: { type: layoutType[kind] },
      })),
    })
    const layout = device.createPipelineLayout({ bindGroupLayouts: [bindGroupLayout] })
    const module = device.createShaderModule({ label: source.label, code: source.code })
    const invalid = device.popErrorScope().catch(() => null)
    try {
      const pipeline = await device.createComputePipelineAsync({ label: source.label, layout, compute: { module } })
      return { source, pipeline, bindGroupLayout }
    } catch (cause) {
      const reason = (await invalid)?.message ?? (cause instanceof Error ? cause.message : cause)
      throw new SparseAttentionError('PIPELINE_FAILED', {
        message: `The kernel '${source.label}' did not compile: ${String(reason).trim()}.`,
        fix: 'Report it with the output of `sparse-attention doctor`.',
        where: source.label,
        cause,
      })
    }
  }
}

function checkLimits(source: KernelSource, limits: GPUSupportedLimits): void {
  const storageBuffers = source.bindings.filter((kind) => kind !== 'uniform').length
  const needs = [
    ['maxComputeInvocationsPerWorkgroup', source.workgroupSize],
    ['maxComputeWorkgroupSizeX', source.workgroupSize],
    ['maxComputeWorkgroupStorageSize', source.workgroupBytes],
    ['maxStorageBuffersPerShaderStage', storageBuffers],
  ] as const
  for (const [limit, needed] of needs) {
    if (limits[limit] < needed) {
      throw new SparseAttentionError('LIMIT_EXCEEDED', {
        message: `The kernel '${source.label}' needs ${limit} ≥ ${needed}, the device has ${limits[limit]}.`,
        fix: `Request the device with requiredLimits: { ${limit}: ${needed} }.`,
        where: limit,
      })
    }
  }
}
