import { type HostBlockPlan, lastVisibleKey } from '@sparse-attention/core'

/** Is block (a, c) forced, and is any pair in it visible? */
export function forcedBlockReference(
  plan: Omit<HostBlockPlan, 'bitmap'>,
  a: number,
  c: number,
  { sinkBlocks, diagonal, localWindow = 1 }: { sinkBlocks: number; diagonal: boolean; localWindow?: number },
): boolean {
  const lastRow = Math.min((a + 1) * plan.blockQ, plan.queryLength) - 1
  if (lastVisibleKey(plan, lastRow) < c * plan.blockK) return false
  if (c < sinkBlocks) return true
  if (!diagonal) return false
  for (let row = a * plan.blockQ; row <= lastRow; row++) {
    const position = row + plan.keyLength - plan.queryLength
    const first = Math.max(0, position - localWindow + 1)
    if (position >= 0 && c >= Math.floor(first / plan.blockK) && c <= Math.floor(position / plan.blockK)) return true
  }
  return false
}
