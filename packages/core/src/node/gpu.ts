import { SparseAttentionError } from '../errors.js'
import { createGpu, installGlobals, loadDawn } from './dawn.js'
import { hasSwiftShader, loadSwiftShader } from './swiftshader.js'

/**
 * - `auto`: hardware; without any, an adapter that runs on the CPU, after a notice;
 * - `hardware`: a GPU or an error;
 * - `software`: SwiftShader where it exists (linux-x64), else the platform's own CPU adapter (WARP on Windows).
 */
export type AdapterKind = 'auto' | 'hardware' | 'software'

export interface FindGpuOptions {
  /** Default: the environment variable `SPARSE_ATTENTION_ADAPTER`, else `auto`. */
  readonly adapter?: AdapterKind
  /** Hears once in a process that a software adapter is used. Default: `console.warn`, on stderr. */
  readonly onNotice?: (notice: string) => void
}

export interface FoundGpu {
  readonly gpu: GPU
  /** True when the adapter runs on the CPU. */
  readonly software: boolean
  /** What a user should know about the adapter, if anything. */
  readonly notice?: string
}

const kinds: readonly string[] = ['auto', 'hardware', 'software'] satisfies AdapterKind[]

/** One `GPU` per kind and process; a failed search is not kept, since the user may install what was missing. */
const found = new Map<AdapterKind, Promise<FoundGpu>>()
let noticed = false

/**
 * Finds a `GPU` for Node through the package `webgpu` and installs the WebGPU globals (`GPUBufferUsage`, …) where absent.
 *
 * @throws INVALID_OPTION for an unknown `adapter`
 * @throws MISSING_DEPENDENCY when `webgpu`, or `@sparticuz/chromium` for the software adapter, is not installed
 * @throws WEBGPU_UNAVAILABLE when there is no adapter of that kind
 */
export async function findGpu(options: FindGpuOptions = {}): Promise<FoundGpu> {
  const kind = options.adapter ?? (process.env.SPARSE_ATTENTION_ADAPTER || 'auto')
  if (!isAdapterKind(kind)) {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `adapter is '${kind}'.`,
      fix: "Use 'auto', 'hardware' or 'software', as an option or in SPARSE_ATTENTION_ADAPTER.",
      where: 'adapter',
    })
  }
  let search = found.get(kind)
  if (search === undefined) {
    search = { auto: findAny, hardware: findHardware, software: findSoftware }[kind]()
    found.set(kind, search)
    search.catch(() => found.delete(kind))
  }
  const result = await search
  if (result.notice !== undefined && !noticed) {
    noticed = true
    const notify = options.onNotice ?? console.warn
    notify(result.notice)
  }
  return result
}

function isAdapterKind(kind: string): kind is AdapterKind {
  return kinds.includes(kind)
}

async function findHardware(): Promise<FoundGpu> {
  const dawn = await loadDawn()
  const gpu = createGpu(dawn)
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' })
  if (adapter === null || adapter.info.isFallbackAdapter) {
    throw new SparseAttentionError('WEBGPU_UNAVAILABLE', {
      message: `No GPU was found${adapter === null ? '' : `, only ${adapter.info.description}, which runs on the CPU`}.`,
      fix: "Install the GPU's Vulkan driver, or use adapter: 'auto' or 'software' to run on the CPU.",
      where: 'adapter',
    })
  }
  installGlobals(dawn)
  return { gpu, software: false }
}

async function findAny(): Promise<FoundGpu> {
  if (hasSwiftShader && !hasVulkanLoader()) return findSoftware()
  const dawn = await loadDawn()
  const gpu = createGpu(dawn)
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' })
  if (adapter === null) return findSoftware()
  installGlobals(dawn)
  return adapter.info.isFallbackAdapter ? softwareGpu(gpu, adapter.info) : { gpu, software: false }
}

async function findSoftware(): Promise<FoundGpu> {
  const dawn = hasSwiftShader ? await loadSwiftShader() : await loadDawn()
  const gpu = onlyFallback(createGpu(dawn))
  const adapter = await gpu.requestAdapter()
  if (adapter === null) throw noSoftwareAdapter()
  installGlobals(dawn)
  return softwareGpu(gpu, adapter.info)
}

function softwareGpu(gpu: GPU, info: GPUAdapterInfo): FoundGpu {
  const name = info.description || info.device || info.architecture
  return {
    gpu,
    software: true,
    notice:
      `sparse-attention: using a software adapter (${name}) on the CPU, hundreds of times slower than a GPU. ` +
      'Fine for tests and small demos; timings say nothing about a GPU.',
  }
}

function noSoftwareAdapter(): SparseAttentionError {
  return new SparseAttentionError('WEBGPU_UNAVAILABLE', {
    message: `No GPU and no software adapter was found on ${process.platform}-${process.arch}.`,
    fix: 'Install the GPU driver (Vulkan on Linux), run on linux-x64, which has SwiftShader, or run in a browser.',
    where: 'adapter',
  })
}

/** On Windows a GPU may be there too, and only the CPU adapter was asked for. */
function onlyFallback(gpu: GPU): GPU {
  const requestAdapter = gpu.requestAdapter.bind(gpu)
  Object.defineProperty(gpu, 'requestAdapter', {
    value: (options?: GPURequestAdapterOptions) => requestAdapter({ ...options, forceFallbackAdapter: true }),
  })
  return gpu
}

/**
 * Whether the system has a Vulkan loader. Without one Dawn finds nothing and prints warnings, so it is not even asked.
 * `process.dlopen` searches just as Dawn will; a library that is there fails too, but for not being a Node add-on.
 */
function hasVulkanLoader(): boolean {
  try {
    process.dlopen({ exports: {} }, 'libvulkan.so.1')
  } catch (error) {
    return error instanceof Error && !error.message.includes('cannot open shared object file')
  }
  return true
}
