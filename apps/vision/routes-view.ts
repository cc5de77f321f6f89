import { type MassCoverage, massCoverage } from '@sparse-attention/vision'
import type { LayerLook } from './photo-classifier.js'

/** One head, or what heads do on average. */
export type HeadChoice = number | 'all'

/** f64[R]: the share of the chosen heads in which the region attends to each; 0 or 1 for one head. */
export function attendedShares({ routes, heads, down, across }: LayerLook, head: HeadChoice, asking: number) {
  const count = down * across
  const shares = new Float64Array(count)
  if (!routes) return shares.fill(1)
  const chosen = headsOf(routes.heads === 1 ? 'all' : head, routes.heads === 1 ? 1 : heads)
  for (const h of chosen) {
    const first = (h * count + asking) * routes.topK
    for (const region of routes.indices.subarray(first, first + routes.topK)) {
      if (region >= 0) shares[region]! += 1 / chosen.length
    }
  }
  return shares
}

/** f64[R]: the attention that exact attention gives to each region, mean over the chosen heads. */
export function massOfRegions(look: LayerLook, head: HeadChoice, asking: number): Float64Array {
  const count = look.down * look.across
  return meanMass(look, head).subarray(asking * count, (asking + 1) * count)
}

/** The share of exact attention's mass that lies in what is computed, mean over the chosen heads. */
export function coveredMass(look: LayerLook, head: HeadChoice, asking: number): number {
  const chosen = headsOf(head, look.heads)
  const sums = chosen.map((h) => {
    const mass = massOfRegions(look, h, asking)
    return attendedShares(look, h, asking).reduce((sum, share, region) => sum + share * mass[region]!, 0)
  })
  return mean(sums)
}

/**
 * Mass in the first k regions, k = 1 … R: in the order of the routing, and at best.
 *
 * @param asking the regions that ask. Default: all
 */
export function coverageOf(look: LayerLook, head: HeadChoice, asking?: readonly number[]): MassCoverage {
  const square = (look.down * look.across) ** 2
  // Heads that route together take the same regions, so these are judged by what all of them need.
  if (look.affinity.length === square) return massCoverage(meanMass(look, head), look.affinity, asking)
  const curves = headsOf(head, look.heads).map((h) =>
    massCoverage(meanMass(look, h), look.affinity.subarray(h * square, (h + 1) * square), asking),
  )
  const average = (of: keyof MassCoverage) => curves[0]![of].map((_, k) => mean(curves.map((curve) => curve[of][k]!)))
  return { routed: average('routed'), best: average('best') }
}

/** The region beside one, by an arrow key; the same where there is none. Undefined for another key. */
export function neighbour({ down, across }: Pick<LayerLook, 'down' | 'across'>, region: number, key: string) {
  const [row, column] = [Math.floor(region / across), region % across]
  const at = (y: number, x: number) =>
    Math.min(down - 1, Math.max(0, y)) * across + Math.min(across - 1, Math.max(0, x))
  switch (key) {
    case 'ArrowUp':
      return at(row - 1, column)
    case 'ArrowDown':
      return at(row + 1, column)
    case 'ArrowLeft':
      return at(row, column - 1)
    case 'ArrowRight':
      return at(row, column + 1)
    case 'Home':
      return at(row, 0)
    case 'End':
      return at(row, across - 1)
    default:
      return undefined
  }
}

/** f64[R, R] */
function meanMass({ mass, heads, down, across }: LayerLook, head: HeadChoice): Float64Array {
  const square = (down * across) ** 2
  const of = (h: number) => mass.subarray(h * square, (h + 1) * square)
  if (head !== 'all') return of(head)
  const sum = new Float64Array(square)
  for (let h = 0; h < heads; h++) for (const [i, value] of of(h).entries()) sum[i]! += value / heads
  return sum
}

function headsOf(head: HeadChoice, heads: number): readonly number[] {
  return head === 'all' ? Array.from({ length: heads }, (_, h) => h) : [head]
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
