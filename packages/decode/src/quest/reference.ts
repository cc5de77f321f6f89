import type { Reference } from '@sparse-attention/testing'
import { questPages } from '../selectors/reference.js'
import type { QuestOptions } from './method.js'

/** Quest in plain loops: pages by the bounds of their scores, for the query heads of a KV head together or each for itself. */
export const questReference: Reference<QuestOptions> = (input, { pageSize, tokenBudget, heads }) => {
  const { batch, queryHeads, kvHeads, keyLength } = input
  const count = Math.ceil(keyLength / pageSize)
  const rows = batch * queryHeads
  const scores = new Float64Array(rows * count)
  const mass = new Float64Array(rows * count)
  const kept = new Uint8Array(rows * count)
  const forced = new Uint8Array(rows * count)
  const gap = new Float64Array(rows)
  const group = heads === 'sum' ? queryHeads / kvHeads : 1
  for (let first = 0; first < rows; first += group) {
    const members = Array.from({ length: group }, (_, n) => first + n)
    const choice = questPages(input, members, pageSize, tokenBudget)
    const largest = choice.scores.reduce((most, score) => Math.max(most, Math.abs(score)), 0)
    for (const head of members) {
      scores.set(choice.scores, head * count)
      // What a page stands for grows with its bound: pages of one bound stand for the same.
      mass.set(
        choice.scores.map((score) => score + largest),
        head * count,
      )
      for (const page of choice.pages) kept[head * count + page] = 1
      forced[head * count] = 1
      forced[(head + 1) * count - 1] = 1
      gap[head] = choice.gap * largest
    }
  }
  return { blockQ: 64, blockK: pageSize, kept, forced, scores, gap, mass }
}
