import type { CompiledConfig, MethodProgram, OptionSpec, Runtime } from '@sparse-attention/core'
import { splitAttention } from '@sparse-attention/kernels'

/**
 * Attention of one query of each head over what a plan keeps, from pages or from tensors. One query sees every key, so that
 * causal and not causal are one.
 */
export async function decodeAttention(runtime: Runtime, config: CompiledConfig): Promise<MethodProgram['attend']> {
  const { pageSize } = config
  const compiled = { ...config, causal: false }
  if (pageSize === undefined) return splitAttention(runtime, compiled)
  const attend = await splitAttention(runtime, compiled, { pageSize })
  return (frame, plan) => attend(frame, plan, frame.pages!)
}

/** Options that methods for decoding have in common. */
export const decodeOptions = {
  pageSize: {
    type: 'choice',
    default: 16,
    choices: [16, 32, 64],
    description: 'Tokens of a page; with a paged cache, its own',
  },
  denseLayers: {
    type: 'number',
    default: 2,
    min: 0,
    max: 65535,
    integer: true,
    description: 'First layers that stay dense, where context.layer is given',
  },
} as const satisfies Record<string, OptionSpec>

/** Is this one of the first layers, which stay dense? */
export function isDenseLayer(
  { context }: { readonly context: { readonly layer?: number } },
  denseLayers: number,
): boolean {
  return context.layer !== undefined && context.layer < denseLayers
}
