import type { AttentionContext, OptionSpec } from '@sparse-attention/core'

/** What methods leave dense: early steps decide what a video shows, and early layers attend widely. */
export interface DenseStart {
  readonly denseSteps: number
  readonly denseLayers: number
}

/** Options that methods of diffusion have in common. */
export const denseStartOptions = {
  denseSteps: {
    type: 'number',
    default: 0,
    min: 0,
    integer: true,
    description: 'Steps at the start computed densely',
  },
  denseLayers: { type: 'number', default: 0, min: 0, integer: true, description: 'First layers computed densely' },
} as const satisfies Record<keyof DenseStart, OptionSpec>

/** Is this one of the first steps, or layers, which stay dense? What the context does not name is the first. */
export function isDenseStart(
  { step = 0, layer = 0 }: AttentionContext,
  { denseSteps, denseLayers }: DenseStart,
): boolean {
  return step < denseSteps || layer < denseLayers
}
