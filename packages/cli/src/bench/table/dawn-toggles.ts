import { createRuntime, type Runtime } from '@sparse-attention/core'

/** Dawn crashes when a `GPU` is collected while work runs. */
const keptAlive: unknown[] = []

/** A runtime of its own on a device that Dawn made with toggles besides those that the library uses. */
export async function withToggles(toggles: readonly string[]): Promise<Runtime> {
  const { create } = await import('webgpu')
  const enabled = ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia', ...toggles]
  const gpu = create([
    `enable-dawn-features=${enabled.join(',')}`,
    'disable-dawn-features=timestamp_quantization',
  ]) as unknown as GPU
  keptAlive.push(gpu)
  return createRuntime({ gpu, software: false })
}
