import { allocateBuffer, isMissing, noMemory } from './allocate.js'
import { Arena } from './arena.js'
import { createAttention, type SparseAttention } from './attention.js'
import type { Kernel, KernelSource } from './dispatch.js'
import { SparseAttentionError } from './errors.js'
import { guarded } from './gpu-errors.js'
import { floatsToHalves, halvesToFloats } from './half.js'
import type { ConfiguredMethod, MethodOptions, UseConfig } from './method.js'
import { PipelineCache } from './pipelines.js'
import {
  type BufferSlice,
  bytesPerElement,
  checkDType,
  contiguousStrides,
  type DType,
  elementCount,
  lastElement,
  type OwnedTensor,
  type Tensor,
  validateTensor,
} from './tensor.js'
import {
  chooseTier,
  findMatrixSyntax,
  matrixShape,
  reportTiers,
  type SubgroupMatrix,
  type SubgroupMatrixSyntax,
  subgroupMatrixFeature,
  type Tier,
  type TierReport,
} from './tiers.js'
import { type AdapterIdentity, parseTuningTable, type TuningTable } from './tuning.js'
import { loadTuning } from './tuning-cache.js'
import { UniformCache } from './uniforms.js'
import { classBudget, knownSpeedBudget, type WorkBudget } from './work-budget.js'

export interface RuntimeOptions {
  /** Share an engine's device. It is used with the features and limits it was created with, and never destroyed. */
  readonly device?: GPUDevice
  /**
   * Of the adapter that `device` came from. Dawn lists subgroup-matrix shapes only there, not in `device.adapterInfo`, so
   * without it a borrowed device may not be seen to offer the tier `matrix`.
   */
  readonly adapterInfo?: GPUAdapterInfo
  /** Where to ask for an adapter when no device is given. Default `navigator.gpu`. */
  readonly gpu?: GPU
  /** Default 'auto': the best tier that the device offers. */
  readonly tier?: Tier | 'auto'
  /** Ceiling for scratch memory. Default 1 GiB. */
  readonly scratchBudgetBytes?: number
  /** Whether the adapter runs on the CPU. Default: found out from its description. */
  readonly software?: boolean
  /** Less work in one dispatch or submit than the adapter's class allows, e.g. to share a GPU smoothly with a page. */
  readonly work?: Partial<WorkBudget>
  /**
   * Which variants of kernels are fastest here: a table made by `tune`, or `'cached'` for the one that `saveTuning` has kept
   * on this machine. Default: none, so that equal programs run equal kernels on equal adapters. Never measures anything.
   */
  readonly tuning?: TuningTable | 'cached'
  /** Which WebGPU this is, with its version; tuning is valid for one. Default: as the browser, or the package, says. */
  readonly implementation?: string
  /** Hears what a user should know and is no error. Default: `console.warn`. */
  readonly onNotice?: (notice: string) => void
}

const STORAGE_COPY = 0x80 | 0x04 | 0x08
const MAP_READ_COPY_DST = 0x01 | 0x08

/** How long a failure waits for the news that its cause was the loss of the device: observed are a few. */
const newsOfLossMs = 50

/** One device: its tier, compiled kernels, scratch and the attentions made on it. Made by `createRuntime`. */
export class Runtime implements Disposable {
  readonly device: GPUDevice
  readonly adapterInfo: GPUAdapterInfo | undefined
  readonly tier: Tier
  readonly tierReports: readonly TierReport[]
  /** What kernels of the tier `matrix` are written for: syntax and shape. Undefined where the device does not offer the tier. */
  readonly subgroupMatrix: SubgroupMatrix | undefined
  /** Lanes that every subgroup has at least; 4 is the least that WebGPU allows. */
  readonly subgroupMinSize: number
  /** Language features of the WGSL compiler, e.g. `packed_4x8_integer_dot_product`. Empty where `gpu` is not known. */
  readonly wgslFeatures: ReadonlySet<string>
  /** The adapter runs on the CPU: correct, and slow. */
  readonly software: boolean
  readonly work: WorkBudget
  /** Which variants of kernels are fastest here, checked. Kernels look themselves up. */
  readonly tuning: TuningTable | undefined
  /** Which WebGPU this is, with its version: `dawn 0.6.2`, `Chrome 147`; empty where it does not say. */
  readonly implementation: string
  /** Resolves with a DEVICE_LOST error when the device is lost; never rejects. */
  readonly lost: Promise<SparseAttentionError>
  readonly scratch: Arena
  readonly uniforms: UniformCache
  readonly #pipelines: PipelineCache
  readonly #ownsDevice: boolean
  #lostError: SparseAttentionError | undefined
  /** How to reject what waits for the GPU. */
  readonly #waiting = new Set<(error: SparseAttentionError) => void>()
  #disposed = false

  /** @internal use `createRuntime` */
  constructor(device: GPUDevice, options: RuntimeOptions, matrixSyntax?: SubgroupMatrixSyntax) {
    this.device = device
    this.adapterInfo = options.adapterInfo ?? device.adapterInfo
    this.wgslFeatures = (options.gpu ?? globalThis.navigator?.gpu)?.wgslLanguageFeatures ?? new Set()
    this.subgroupMinSize = this.adapterInfo?.subgroupMinSize ?? 4
    this.tierReports = reportTiers(device, this.adapterInfo, matrixSyntax)
    this.tier = chooseTier(this.tierReports, options.tier ?? 'auto')
    const shape = this.tierReports.some(({ tier, offered }) => tier === 'matrix' && offered)
      ? matrixShape(this.adapterInfo)
      : undefined
    this.subgroupMatrix = shape && matrixSyntax && { syntax: matrixSyntax, ...shape }
    this.software = options.software ?? isSoftware(this.adapterInfo)
    this.work = { ...classBudget(this.software), ...options.work }
    this.tuning = typeof options.tuning === 'object' ? parseTuningTable(options.tuning) : undefined
    this.implementation = options.implementation ?? browserVersion(globalThis.navigator?.userAgent ?? '')
    this.scratch = new Arena(device, options.scratchBudgetBytes ?? 2 ** 30)
    this.uniforms = new UniformCache(device)
    this.#pipelines = new PipelineCache(device)
    this.#ownsDevice = options.device === undefined
    this.lost = device.lost.then((info) => {
      this.#lostError = new SparseAttentionError('DEVICE_LOST', {
        message: `The GPU device was lost (${info.reason}): ${info.message.replace(/\.$/, '') || 'no reason given'}.`,
        fix: 'Create a new runtime and its attentions again.',
        where: 'device',
      })
      for (const reject of this.#waiting) reject(this.#lostError)
      this.#waiting.clear()
      return this.#lostError
    })
  }

  /**
   * Compiles a method for tensors of one kind. Lengths and batch may vary from call to call.
   *
   * @throws INVALID_ARGUMENT, UNSUPPORTED for a configuration that the method does not take
   * @throws LIMIT_EXCEEDED, PIPELINE_FAILED when the device cannot compile it
   */
  async use<Options extends MethodOptions>(
    configured: ConfiguredMethod<Options>,
    config: UseConfig,
  ): Promise<SparseAttention> {
    this.assertUsable()
    return createAttention(this, configured, config)
  }

  /** What tuning is looked up by. */
  get identity(): AdapterIdentity {
    const { vendor = '', architecture = '', device = '' } = this.adapterInfo ?? {}
    return { vendor, architecture, device, implementation: this.implementation }
  }

  /**
   * Operations that may go into one dispatch of a kernel.
   *
   * @param operationsPerSecond  what the kernel does here, where that is known; the budget is then 100 ms
   */
  dispatchBudget(operationsPerSecond?: number): number {
    if (operationsPerSecond === undefined) return this.work.operationsPerDispatch
    return knownSpeedBudget(this.work, this.software, operationsPerSecond)
  }

  /** Compiles a kernel, or returns the one compiled before from the same source. */
  async kernel(source: KernelSource): Promise<Kernel> {
    this.assertUsable()
    return this.whileAlive(this.#pipelines.get(source))
  }

  /**
   * A tensor in a buffer of its own, contiguous.
   *
   * @param data elements in row-major order; numbers are rounded to the dtype, `Uint16Array` is taken as f16 bits.
   *   Absent: zeros.
   * @throws INVALID_SHAPE, BUFFER_TOO_SMALL (data of another length), LIMIT_EXCEEDED
   */
  tensor(dtype: DType, shape: readonly number[], data?: Float32Array | Uint16Array): OwnedTensor {
    this.assertUsable()
    checkDType(dtype, 'tensor')
    const count = elementCount(shape)
    if (data && data.length !== count) {
      throw new SparseAttentionError('BUFFER_TOO_SMALL', {
        message: `A tensor of shape [${shape}] has ${count} elements, the data ${data.length}.`,
        fix: 'Pass exactly one number per element.',
        where: 'data',
      })
    }
    const size = Math.ceil((count * bytesPerElement[dtype]) / 16) * 16
    if (!(size > 0) || size > this.device.limits.maxBufferSize) {
      throw new SparseAttentionError(size > 0 ? 'LIMIT_EXCEEDED' : 'INVALID_SHAPE', {
        message: `A ${dtype} tensor of shape [${shape}] would take ${size} bytes; the device allows 1 to ${this.device.limits.maxBufferSize}.`,
        fix: 'Use positive sizes, split the tensor, or request a device with a larger maxBufferSize.',
        where: 'shape',
      })
    }
    const buffer = allocateBuffer(this.device, { label: 'sparse-attention tensor', size, usage: STORAGE_COPY })
    const tensor: OwnedTensor = {
      buffer,
      dtype,
      shape: [...shape],
      strides: contiguousStrides(shape),
      offset: 0,
      dispose: () => buffer.destroy(),
      [Symbol.dispose]: () => buffer.destroy(),
    }
    try {
      validateTensor(tensor, 'tensor')
      if (data) this.#upload(buffer, dtype, data)
    } catch (error) {
      buffer.destroy()
      throw error
    }
    return tensor
  }

  #upload(buffer: GPUBuffer, dtype: DType, data: Float32Array | Uint16Array): void {
    const elements =
      dtype === 'f16'
        ? data instanceof Uint16Array
          ? data
          : floatsToHalves(data)
        : data instanceof Float32Array
          ? data
          : halvesToFloats(data)
    const bytes = new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength)
    if (bytes.byteLength % 4 === 0) {
      this.device.queue.writeBuffer(buffer, 0, bytes as Uint8Array<ArrayBuffer>)
    } else {
      const padded = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4)
      padded.set(bytes)
      this.device.queue.writeBuffer(buffer, 0, padded)
    }
  }

  /** Reads a tensor back, in row-major order of its shape. Waits for all submitted work. */
  async read(tensor: Tensor): Promise<Float32Array> {
    validateTensor(tensor, 'tensor')
    const width = bytesPerElement[tensor.dtype]
    const start = Math.floor((tensor.offset * width) / 4) * 4
    const end = Math.min(tensor.buffer.size, Math.ceil(((lastElement(tensor) + 1) * width) / 4) * 4)
    const bytes = await this.readBytes({ buffer: tensor.buffer, offsetBytes: start, sizeBytes: end - start })
    const stored =
      tensor.dtype === 'f32' ? new Float32Array(bytes) : halvesToFloats(new Uint16Array(bytes, 0, bytes.byteLength / 2))
    return gather(stored, tensor, tensor.offset - start / width)
  }

  /** Reads a byte range back. `offsetBytes` and `sizeBytes` are multiples of 4. */
  async readBytes(slice: BufferSlice): Promise<ArrayBuffer> {
    this.assertUsable()
    const staging = allocateBuffer(this.device, {
      label: 'read-back',
      size: slice.sizeBytes,
      usage: MAP_READ_COPY_DST,
    })
    try {
      // Without the check a destroyed buffer would read as zeros.
      const { check } = guarded(this, () => {
        const encoder = this.device.createCommandEncoder()
        encoder.copyBufferToBuffer(slice.buffer, slice.offsetBytes, staging, 0, slice.sizeBytes)
        this.device.queue.submit([encoder.finish()])
      })
      await Promise.all([check, this.whileAlive(staging.mapAsync(0x1))])
      return staging.getMappedRange().slice(0)
    } catch (error) {
      const missing = [slice.buffer, staging].find(isMissing)
      throw missing ? noMemory(missing, error) : error
    } finally {
      staging.destroy()
    }
  }

  /** Waits until all submitted work is done. */
  async idle(): Promise<void> {
    await this.whileAlive(this.device.queue.onSubmittedWorkDone())
  }

  /** The result of `work`, or the DEVICE_LOST error if the device is lost meanwhile. */
  whileAlive<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#lostError) reject(this.#lostError)
      // Not a race with `lost`: a promise that lives as long as the runtime would keep every race that it was part of.
      else this.#waiting.add(reject)
      work.then(
        (value) => {
          this.#waiting.delete(reject)
          resolve(value)
        },
        async (error) => {
          reject((await this.#newsOfLoss()) ?? error)
          this.#waiting.delete(reject)
        },
      )
    })
  }

  /** Browsers reject what is pending on a device first, and say that it is lost a moment later. */
  async #newsOfLoss(): Promise<SparseAttentionError | undefined> {
    if (!this.#lostError) await new Promise((resolve) => setTimeout(resolve, newsOfLossMs))
    return this.#lostError
  }

  /** @throws DISPOSED, DEVICE_LOST */
  assertUsable(): void {
    if (this.#disposed) {
      throw new SparseAttentionError('DISPOSED', {
        message: 'The runtime is disposed.',
        fix: 'Create a new one.',
        where: 'runtime',
      })
    }
    if (this.#lostError) throw this.#lostError
  }

  get disposed(): boolean {
    return this.#disposed
  }

  /** Frees scratch and uniforms, and destroys the device unless it was borrowed. May be called twice. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.scratch.dispose()
    this.uniforms.dispose()
    if (this.#ownsDevice) this.device.destroy()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/**
 * A runtime on a device of its own, or on the one given.
 *
 * @throws WEBGPU_UNAVAILABLE where there is no WebGPU or no adapter
 * @throws TIER_UNAVAILABLE when a tier is forced that the device or this version does not have
 * @throws INVALID_FILE for a tuning table that is none
 */
export async function createRuntime(given: RuntimeOptions = {}): Promise<Runtime> {
  const { tuning: wanted, ...others } = given
  const tuning = wanted === 'cached' ? await loadTuning(given) : wanted
  const options = tuning === undefined ? others : { ...others, tuning }
  if (options.device) return new Runtime(options.device, options, await findMatrixSyntax(options.device))
  const { device, adapterInfo } = await requestDevice(options.gpu ?? globalThis.navigator?.gpu)
  try {
    return new Runtime(device, { adapterInfo, ...options }, await findMatrixSyntax(device))
  } catch (error) {
    device.destroy()
    throw error
  }
}

/** Features worth having when the adapter offers them. */
const wantedFeatures = ['shader-f16', 'subgroups', 'timestamp-query', 'subgroup-size-control', subgroupMatrixFeature]

const wantedLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
] as const

async function requestDevice(gpu: GPU | undefined): Promise<{ device: GPUDevice; adapterInfo: GPUAdapterInfo }> {
  const adapter = await gpu?.requestAdapter({ powerPreference: 'high-performance' })
  if (!adapter) {
    throw new SparseAttentionError('WEBGPU_UNAVAILABLE', {
      message: gpu ? 'WebGPU is there, but no adapter was found.' : 'There is no WebGPU here.',
      fix: 'Use a browser with WebGPU enabled; in Node import @sparse-attention/core and install the npm package webgpu.',
      where: 'navigator.gpu',
    })
  }
  const device = await adapter.requestDevice({
    label: 'sparse-attention',
    requiredFeatures: wantedFeatures.filter((f) => adapter.features.has(f as GPUFeatureName)) as GPUFeatureName[],
    requiredLimits: Object.fromEntries(wantedLimits.map((name) => [name, adapter.limits[name]])),
  })
  return { device, adapterInfo: adapter.info }
}

/** Edge and Opera say Chrome first, which is what their WebGPU is. Node says nothing of Dawn. */
function browserVersion(userAgent: string): string {
  const [, name, version] =
    /(Firefox|Chrome)\/(\d+)/.exec(userAgent) ?? /(Version)\/([\d.]+).*Safari/.exec(userAgent) ?? []
  return name === undefined ? '' : `${name === 'Version' ? 'Safari' : name} ${version}`
}

function isSoftware(info: GPUAdapterInfo | undefined): boolean {
  if (!info) return false
  return (
    info.isFallbackAdapter === true ||
    /swiftshader|llvmpipe|lavapipe/i.test(`${info.architecture} ${info.device} ${info.description}`)
  )
}

/** Elements of a strided view in row-major order; `origin` is the view's first element inside `stored`. */
function gather(stored: Float32Array, { shape, strides }: Tensor, origin: number): Float32Array {
  const rowLength = shape[shape.length - 1]!
  const rowStride = strides[strides.length - 1]!
  const values = new Float32Array(elementCount(shape))
  const index = new Array<number>(shape.length).fill(0)
  for (let at = 0; at < values.length; at += rowLength) {
    let from = origin
    for (let axis = 0; axis < shape.length - 1; axis++) from += index[axis]! * strides[axis]!
    for (let i = 0; i < rowLength; i++) values[at + i] = stored[from + i * rowStride]!
    for (let axis = shape.length - 2; axis >= 0; axis--) {
      if (++index[axis]! < shape[axis]!) break
      index[axis] = 0
    }
  }
  return values
}
