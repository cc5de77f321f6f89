import { type DType, floatsToHalves, halfToFloat } from '@sparse-attention/core'

/** f32 as halves, beyond ±65504 that; or halves as f32. */
export function convertElementsReference(to: DType, source: ArrayLike<number>): number[] {
  const list = Array.from(source)
  if (to === 'f32') return list.map(halfToFloat)
  return [...floatsToHalves(list.map((value) => Math.min(65504, Math.max(-65504, value))))]
}
