import { createRuntime, type Runtime, type RuntimeOptions } from '@sparse-attention/core'

/** Dawn crashes when a `GPU` is collected while work runs. */
const keptAlive: unknown[] = []

/** A runtime of its own on a device that Dawn made with toggles besides those that the library uses. */
export async function withToggles(toggles: readonly string[], options: RuntimeOptions): Promise<Runtime> {
  const { create } = await import('webgpu')
  const enabled = ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia', ...toggles]
  const gpu = create([
    `enable-dawn-features=${enabled.join(',')}`,
    'disable-dawn-features=timestamp_quantization',
  ]) as unknown as GPU
  keptAlive.push(gpu)
  return createRuntime({ ...options, gpu })
}
