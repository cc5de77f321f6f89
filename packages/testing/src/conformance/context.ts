import type {
  AttentionContext,
  AttentionShape,
  Capabilities,
  MethodDefinition,
  MethodOptions,
} from '@sparse-attention/core'

/** A grid for a shape that uses most of its keys; what is left over is text. */
export function gridFor({ keyLength }: Pick<AttentionShape, 'keyLength'>, axes: number): number[] {
  const frames = axes === 3 ? Math.min(4, keyLength) : 1
  const perFrame = Math.floor(keyLength / frames)
  const width = Math.floor(Math.sqrt(perFrame))
  const frame = [Math.floor(perFrame / width), width]
  return axes === 3 ? [frames, ...frame] : frame
}

/** What a method is called with beyond tensors: what its test gives, and a grid where it takes one. */
export function contextFor(
  { grid = 'none', gridAxes = [2, 3] }: Capabilities,
  given: ((shape: AttentionShape) => AttentionContext) | undefined,
): ((shape: AttentionShape) => AttentionContext) | undefined {
  if (grid === 'none') return given
  const axes = Math.max(...gridAxes)
  return (shape) => ({ grid: gridFor(shape, axes), ...given?.(shape) })
}

/** A method's longest block, in both directions, where queries and keys must be of the same tokens. */
export function squareBlock<Options extends MethodOptions>(
  { capabilities }: Pick<MethodDefinition<Options>, 'capabilities'>,
  { q, k }: { readonly q: number; readonly k: number },
): { q: number; k: number } {
  if (!capabilities.selfAttention) return { q, k }
  const largest = Math.max(q, k)
  return { q: largest, k: largest }
}
