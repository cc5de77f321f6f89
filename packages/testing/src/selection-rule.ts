import { type HostPlan, keptShares, lastVisibleKey } from '@sparse-attention/core'
import { coveredEntries } from './covered-entries.js'
import type { HeadRanking, ReferenceSelection } from './reference.js'

/** Two scores closer than this share of the row's largest may come out in either order in float32. */
const closeCall = 1e-4

/** What a row keeps, as a share of its mass, may then differ by this much; what a head covers may be this much less. */
const massTolerance = 1e-3

export interface SelectionRuleOptions {
  /** What the message calls the case. */
  readonly name: string
  /** The inputs make every score exact, so nothing is too close to call. */
  readonly exact?: boolean
}

/**
 * The rule for selections: a plan keeps the same blocks as the float64 reference in every row whose gap at the cut is
 * more than 1e-4 of its largest score; in other rows it keeps the same mass within 1e-3; on inputs with exact scores it
 * is the same everywhere. Of top-p, a close row may keep the block on whose border the threshold falls, or not. Forced blocks
 * are always in. Blocks without a visible pair do not count. The plan may be of any kind, as long as it keeps or skips each of
 * the reference's blocks whole. Where rules decide once for a head, a close call
 * is one of the head: it then covers entries of the mass that the reference chooses, less at most 1e-3, and forced ones.
 *
 * @throws Error naming the case, the row, both selections and the gap
 */
export function expectSelectionClose(
  plan: HostPlan,
  reference: ReferenceSelection,
  { name, exact = false }: SelectionRuleOptions,
): void {
  const { blockQ, blockK } = reference
  if (reference.headRankings && blockK !== 1)
    throw new Error(`${name}: rankings of heads need blockK 1, not ${blockK}.`)
  const queryBlocks = Math.ceil(plan.queryLength / blockQ)
  const keyBlocks = Math.ceil(plan.keyLength / blockK)
  const shares = keptShares(plan, blockQ, blockK)
  const blocks = plan.batch * plan.queryHeads * queryBlocks * keyBlocks
  for (const field of ['kept', 'forced', 'scores', 'mass'] as const) {
    const length = reference[field]?.length ?? blocks
    if (length !== blocks)
      throw new Error(`${name}: the reference's ${field} has ${length} blocks, expected ${blocks}.`)
  }
  if (reference.scores && !reference.gap) throw new Error(`${name}: the reference has scores, but no gap.`)

  for (let b = 0; b < plan.batch; b++) {
    for (let h = 0; h < plan.queryHeads; h++) {
      if (reference.headRankings && !exact && closeHead(reference.headRankings, b, h))
        checkHead(reference.headRankings, b, h)
      else for (let a = 0; a < queryBlocks; a++) checkRow(b, h, a)
    }
  }

  function closeHead(rankings: readonly HeadRanking[], b: number, h: number): boolean {
    const head = b * plan.queryHeads + h
    return rankings.some(({ scores, gap }) => {
      const largest = scores
        .subarray(head * plan.keyLength, (head + 1) * plan.keyLength)
        .reduce((a, x) => Math.max(a, x), 0)
      return gap[head]! <= closeCall * largest
    })
  }

  function checkHead(rankings: readonly HeadRanking[], b: number, h: number): void {
    const head = b * plan.queryHeads + h
    const rows = shares.subarray(head * queryBlocks * keyBlocks, (head + 1) * queryBlocks * keyBlocks)
    for (const { of, kept, forced, scores } of rankings) {
      const covered = coveredEntries(of, rows, plan, blockQ)
      const mass = { all: 0, chosen: 0, covered: 0 }
      for (let n = 0; n < plan.keyLength; n++) {
        const at = head * plan.keyLength + n
        if (forced[at] && !covered[n])
          throw new Error(`${name}: head ${h}, batch ${b}, does not cover ${of} ${n}, which is forced.`)
        mass.all += scores[at]!
        if (kept[at]) mass.chosen += scores[at]!
        if (covered[n]) mass.covered += scores[at]!
      }
      const less = (mass.chosen - mass.covered) / (mass.all || 1)
      if (!(less <= massTolerance)) {
        throw new Error(
          `${name}: head ${h}, batch ${b}, has a close call, but the ${of} it covers hold ${less} less of their mass than those of the reference, more than ${massTolerance}.`,
        )
      }
    }
  }

  function checkRow(b: number, h: number, a: number): void {
    const row = (b * plan.queryHeads + h) * queryBlocks + a
    const lastRow = Math.min((a + 1) * blockQ, plan.queryLength) - 1
    const visible = Math.max(0, Math.ceil((lastVisibleKey(plan, lastRow) + 1) / blockK))
    const actual: number[] = []
    const expected: number[] = []
    const missing: number[] = []
    for (let c = 0; c < visible; c++) {
      const at = row * keyBlocks + c
      const share = shares[at]!
      if (share > 0 && share < 1)
        throw new Error(
          `${name}: the plan keeps ${share} of block (${a}, ${c}) of the reference's ${blockQ}×${blockK} grid.`,
        )
      const kept = share === 1
      if (kept) actual.push(c)
      if (reference.kept[at]) expected.push(c)
      if (reference.forced?.[at] && !kept) missing.push(c)
    }
    const fail: (reason: string) => never = (reason) => {
      throw new Error(
        `${name}: query block ${a} of head ${h}, batch ${b}, keeps key blocks {${actual}}, the reference {${expected}}; ${reason}.`,
      )
    }
    if (missing.length > 0) fail(`{${missing}} are forced`)
    if (actual.join() === expected.join()) return
    if (exact) fail('scores are exact here, so the selection must be the same')
    if (!reference.scores || !reference.gap) fail('the rule looks at no score, so the selection must be the same')

    let largest = 0
    for (let c = 0; c < visible; c++) {
      const score = Math.abs(reference.scores[row * keyBlocks + c]!)
      if (score > largest) largest = score // false for NaN: not a candidate
    }
    const gap = reference.gap[row]!
    if (!(gap <= closeCall * largest))
      fail(`the gap at the cut is ${gap}, more than ${closeCall} of the largest score ${largest}`)

    const masses = reference.mass ?? reference.scores
    const blocks = Array.from({ length: visible }, (_, c) => c)
    const massOf = (kept: readonly number[]) => kept.reduce((sum, c) => sum + (masses[row * keyBlocks + c]! || 0), 0)
    const total = massOf(blocks)
    if (reference.target) {
      const chosen = actual.filter((c) => !reference.forced?.[row * keyBlocks + c])
      const least = Math.min(...chosen.map((c) => massOf([c])))
      const left = Math.max(0, ...blocks.filter((c) => !actual.includes(c)).map((c) => massOf([c])))
      const [target, slack] = [reference.target[row]!, massTolerance * total]
      const kept = massOf(actual)
      if (!(kept >= target - slack)) fail(`it holds ${kept}, less than the target ${target}`)
      if (chosen.length > 0 && !(kept - least <= target + slack))
        fail(`it holds the target ${target} without its least block of ${least}, too`)
      if (chosen.length > 0 && !(left - least <= slack)) fail(`it leaves out ${left} and keeps ${least}`)
      return
    }
    const difference = Math.abs(massOf(actual) - massOf(expected)) / (total || 1)
    if (!(difference <= massTolerance)) {
      fail(`the scores at the cut are close, but the mass kept differs by ${difference}, more than ${massTolerance}`)
    }
  }
}
