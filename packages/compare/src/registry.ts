import { type MethodFactory, SparseAttentionError } from '@sparse-attention/core'
import { methods as decodeMethods } from '@sparse-attention/decode'
import { methods as diffusionMethods } from '@sparse-attention/diffusion'
import { methods as kernelMethods } from '@sparse-attention/kernels'
import { methods as prefillMethods } from '@sparse-attention/prefill'
import { methods as visionMethods } from '@sparse-attention/vision'

/** Every method that is installed: what the packages list, so that a new method appears without a line here. */
export const registry: readonly MethodFactory[] = [
  ...kernelMethods,
  ...prefillMethods,
  ...decodeMethods,
  ...diffusionMethods,
  ...visionMethods,
]

/**
 * @throws INVALID_ARGUMENT for an unknown id, naming those that exist
 */
export function findMethod(id: string): MethodFactory {
  const factory = registry.find(({ definition }) => definition.id === id)
  if (factory) return factory
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `There is no method '${id}'.`,
    fix: `Use one of ${registry.map(({ definition }) => definition.id).join(', ')}.`,
    where: 'method',
  })
}
