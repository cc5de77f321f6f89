import { forEachPlanRows, type HostPlan, lastVisibleKey, type PlanRows, visiblePairs } from '@sparse-attention/core'

/** A part of a head's queries × keys. Ends are not included. */
export interface PlanWindow {
  readonly firstRow: number
  readonly endRow: number
  readonly firstKey: number
  readonly endKey: number
}

/** One head of a plan, ready to be drawn at any zoom. */
export interface PlanHead {
  readonly plan: HostPlan
  readonly rows: readonly PlanRows[]
}

/** @param head counted over the batch: batch · Hq + head */
export function planHead(plan: HostPlan, head: number): PlanHead {
  const rows: PlanRows[] = []
  forEachPlanRows(plan, (found) => {
    if (found.batch * plan.queryHeads + found.head === head) rows.push(found)
  })
  return { plan, rows }
}

export const wholePlan = ({ queryLength, keyLength }: HostPlan): PlanWindow => ({
  firstRow: 0,
  endRow: queryLength,
  firstKey: 0,
  endKey: keyLength,
})

/** What a head keeps of a window. */
export interface WindowShares {
  /** Share of the visible pairs that are kept in each cell, NaN where none is visible. f32[down, across] */
  readonly cells: Float32Array
  readonly keptPairs: number
  readonly visiblePairs: number
}

/** What the head keeps of a window that is cut into `down` × `across` cells. */
export function windowShares(
  { plan, rows }: PlanHead,
  { firstRow, endRow, firstKey, endKey }: PlanWindow,
  down: number,
  across: number,
): WindowShares {
  const rowEdges = edges(firstRow, endRow, down)
  const keyEdges = edges(firstKey, endKey, across)
  const kept = new Float64Array(down * across)
  for (const { firstRow: first, endRow: end, keys } of rows) {
    if (end <= firstRow || first >= endRow) continue
    for (let y = 0; y < down; y++) {
      const [top, bottom] = [Math.max(first, rowEdges[y]!), Math.min(end, rowEdges[y + 1]!)]
      if (top >= bottom) continue
      const lastKey = Math.min(endKey, lastVisibleKey(plan, bottom - 1) + 1)
      for (let i = 0; i < keys.length && keys[i]! < lastKey; i += 2) {
        if (keys[i + 1]! <= firstKey) continue
        const [from, to] = [Math.max(firstKey, keys[i]!), Math.min(lastKey, keys[i + 1]!)]
        for (let x = cellOf(keyEdges, from); x < across && keyEdges[x]! < to; x++) {
          const [left, right] = [Math.max(from, keyEdges[x]!), Math.min(to, keyEdges[x + 1]!)]
          if (left < right) kept[y * across + x]! += visiblePairs(plan, top, bottom, left, right)
        }
      }
    }
  }
  const cells = Float32Array.from(kept, (pairs, cell) => {
    const [y, x] = [Math.floor(cell / across), cell % across]
    return pairs / visiblePairs(plan, rowEdges[y]!, rowEdges[y + 1]!, keyEdges[x]!, keyEdges[x + 1]!)
  })
  return {
    cells,
    keptPairs: kept.reduce((sum, pairs) => sum + pairs, 0),
    visiblePairs: visiblePairs(plan, firstRow, endRow, firstKey, endKey),
  }
}

/** Whole tokens, as evenly as they go. */
function edges(first: number, end: number, parts: number): Int32Array {
  return Int32Array.from({ length: parts + 1 }, (_, i) => Math.round(first + ((end - first) * i) / parts))
}

/** The last cell that starts at or before a token. */
function cellOf(edges: Int32Array, token: number): number {
  let [low, high] = [0, edges.length - 2]
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (edges[middle]! <= token) low = middle
    else high = middle - 1
  }
  return low
}

/** The window magnified about a place of it (0–1 across and down), within the plan and not below `least` tokens. */
export function zoomed(plan: HostPlan, window: PlanWindow, factor: number, x = 0.5, y = 0.5, least = 8): PlanWindow {
  const axis = (first: number, end: number, length: number, at: number): [number, number] => {
    const size = end - first
    const next = Math.min(length, Math.max(Math.min(least, length), Math.round(size / factor)))
    const start = Math.min(length - next, Math.max(0, Math.round(first + at * (size - next))))
    return [start, start + next]
  }
  const [firstRow, endRow] = axis(window.firstRow, window.endRow, plan.queryLength, y)
  const [firstKey, endKey] = axis(window.firstKey, window.endKey, plan.keyLength, x)
  return { firstRow, endRow, firstKey, endKey }
}

/** The window moved by shares of its size, as far as the plan goes. */
export function panned(plan: HostPlan, window: PlanWindow, right: number, down: number): PlanWindow {
  const axis = (first: number, end: number, length: number, by: number): [number, number] => {
    const size = end - first
    const start = Math.min(length - size, Math.max(0, Math.round(first + by * size)))
    return [start, start + size]
  }
  const [firstRow, endRow] = axis(window.firstRow, window.endRow, plan.queryLength, down)
  const [firstKey, endKey] = axis(window.firstKey, window.endKey, plan.keyLength, right)
  return { firstRow, endRow, firstKey, endKey }
}
