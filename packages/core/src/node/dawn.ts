import { join } from 'node:path'
import { SparseAttentionError } from '../errors.js'
import { findPackage } from './packages.js'
import { acceptSharedMemory } from './shared-memory.js'

/** What Dawn's Node binding exports. */
export interface DawnModule {
  create(flags: string[]): GPU
  readonly globals: object
}

/**
 * - `allow_unsafe_apis`: offers the experimental features behind the `matrix` tier;
 * - `vulkan_enable_f16_on_nvidia`: NVIDIA under Vulkan has shader-f16 only with it;
 * - `timestamp_quantization` off: nanoseconds instead of steps of 65,536 ns.
 */
const flags: readonly string[] = [
  'enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia',
  'disable-dawn-features=timestamp_quantization',
]

/** Dawn crashes when a `GPU` is collected while work runs, and often at exit: keep each one as long as the process. */
const keptAlive: unknown[] = (() => {
  const key = Symbol.for('sparse-attention.node.gpus')
  const holder = globalThis as unknown as Record<symbol, unknown[] | undefined>
  holder[key] ??= []
  return holder[key]
})()

/** Path of the native add-on inside the package `webgpu` for this platform. */
export function dawnPath(): { readonly path: string; readonly version: string } {
  const { folder, version } = findPackage('webgpu', 'WebGPU in Node')
  return { path: join(folder, 'dist', `${process.platform}-${process.arch}`, 'dawn.node'), version }
}

/**
 * Loads the package `webgpu`.
 *
 * @throws MISSING_DEPENDENCY when it is not installed
 * @throws WEBGPU_UNAVAILABLE when it has no build for this platform
 */
export async function loadDawn(): Promise<DawnModule> {
  findPackage('webgpu', 'WebGPU in Node')
  try {
    return (await import('webgpu')) as DawnModule
  } catch (cause) {
    throw new SparseAttentionError('WEBGPU_UNAVAILABLE', {
      message: `The package webgpu could not be loaded on ${process.platform}-${process.arch}.`,
      fix: 'Use Linux with glibc, macOS or Windows on x64 or arm64, or pass your own `gpu` or `device`.',
      where: 'webgpu',
      cause,
    })
  }
}

/** Makes a `GPU` that lives as long as the process. */
export function createGpu(dawn: DawnModule): GPU {
  const gpu = dawn.create([...flags])
  keptAlive.push(gpu)
  return gpu
}

/** Puts `GPUBufferUsage`, `GPUDevice`, … where browsers have them; what is already there stays. */
export function installGlobals(dawn: DawnModule): void {
  for (const [name, value] of Object.entries(dawn.globals)) {
    if (!(name in globalThis)) {
      Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false })
    }
  }
  const { GPUQueue: Queue } = dawn.globals as { GPUQueue?: { prototype: GPUQueue } }
  if (Queue !== undefined) acceptSharedMemory(Queue.prototype)
}
