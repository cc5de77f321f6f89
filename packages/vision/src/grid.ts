import { type AttentionFrame, SparseAttentionError } from '@sparse-attention/core'

/**
 * The grid of a call's tokens, each of which has its place in it.
 *
 * @throws INVALID_SHAPE where there are more tokens than places
 */
export function gridOf({ context, keyLength }: AttentionFrame): readonly [height: number, width: number] {
  const [height, width] = context.grid as [number, number] // its form is checked by the capabilities
  if (height * width === keyLength) return [height, width]
  throw new SparseAttentionError('INVALID_SHAPE', {
    message: `The grid of ${height} × ${width} has ${height * width} places, and there are ${keyLength} tokens.`,
    fix: 'Every token needs its place: leave class tokens out of the call, or pass the grid of all tokens.',
    where: 'context.grid',
  })
}
