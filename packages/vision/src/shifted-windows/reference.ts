import type { Reference } from '@sparse-attention/testing'
import type { ShiftedWindowsOptions } from './method.js'

/**
 * Shifted windows as Swin computes them (arXiv 2103.14030, §3.2 and figure 4): the grid, padded at the bottom and the
 * right, is rolled and cut into windows; of a window that holds both sides of the seam, each side sees itself only. In blocks
 * of one token.
 */
export const shiftedWindowsReference: Reference<ShiftedWindowsOptions> = (
  { batch, queryHeads, keyLength: length, context },
  { window, shift },
) => {
  const [height, width] = (context.grid ?? [1, length]) as [number, number]
  const shifted = shift === 'always' || (shift === 'alternate' && (context.layer ?? 0) % 2 === 1)
  const by = shifted && window < Math.min(height, width) ? Math.floor(window / 2) : 0
  /** Window and side of the seam of a place along one axis. */
  const piece = (at: number, size: number): string => {
    const side = Math.min(window, size)
    const padded = Math.ceil(size / side) * side
    const rolled = (at - by + padded) % padded
    const seam = rolled < padded - side ? 0 : rolled < padded - by ? 1 : 2
    return `${Math.floor(rolled / side)} ${seam}`
  }
  const pieces = Array.from(
    { length },
    (_, token) => `${piece(Math.floor(token / width), height)} ${piece(token % width, width)}`,
  )
  const head = Uint8Array.from({ length: length * length }, (_, pair) =>
    pieces[Math.floor(pair / length)] === pieces[pair % length] ? 1 : 0,
  )
  const kept = new Uint8Array(batch * queryHeads * head.length)
  for (let h = 0; h < batch * queryHeads; h++) kept.set(head, h * head.length)
  return { blockQ: 1, blockK: 1, kept }
}
