import type { HostPermutedPlan, HostVariableBlockPlan } from '@sparse-attention/core'
import type { Reference, ReferenceInput, ReferenceSelection } from '@sparse-attention/testing'
import { sampleRows } from '../first-rows.js'
import type { SparseVideogen2Options } from './method.js'

type ClusterPlan = HostPermutedPlan & HostVariableBlockPlan

/** Tokens of each cluster of one head. */
type Clusters = readonly (readonly number[])[]

/**
 * Sparse VideoGen2's selection in plain loops (arXiv 2505.18875, §4): means of clusters, softmax of their products weighted by
 * sizes, clusters in order of weight while the sum before is at most p. k-means goes on from rounded sums, so the clusters are
 * those of the plan: each must be a set of its own, and after one iteration hold the tokens nearest to its first one.
 */
export const sparseVideogen2Reference: Reference<SparseVideogen2Options> = (input, options) => {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, context } = input
  const { layer = 0, step = 0 } = context
  const plan = input.plan as ClusterPlan | undefined
  const dense =
    options.topP >= 1 || options.minKeepRatio >= 1 || step < options.denseSteps || layer < options.denseLayers
  if (dense || !plan) return everything(input)
  if (!plan.permutation) throw new Error(`the plan is of kind ${plan.kind}, and its tokens are not permuted`)

  const pairs = batch * queryHeads * queryLength * keyLength
  const kept = new Uint8Array(pairs)
  const scores = new Float64Array(pairs)
  const gap = new Float64Array(batch * queryHeads * queryLength)
  const checked = new Map<number, Clusters>()
  for (let head = 0; head < batch * queryHeads; head++) {
    const kvHead = Math.floor(head / queryHeads) * kvHeads + Math.floor(((head % queryHeads) * kvHeads) / queryHeads)
    const { permutation, queryStarts, keyStarts } = plan
    const queries = clustersOf(permutation.queries, queryStarts, head, queryLength, plan.queryBlocks)
    checkClusters(input, input.q, head, queryLength, queries, options.queryClusters, options)
    const keys = checked.get(kvHead) ?? clustersOf(permutation.keys, keyStarts, kvHead, keyLength, plan.keyBlocks)
    if (!checked.has(kvHead)) checkClusters(input, input.k, kvHead, keyLength, keys, options.keyClusters, options)
    checked.set(kvHead, keys)
    const { kept: blocks, weights, clear } = selectOf(input, head, kvHead, queries, keys, options)
    queries.forEach((rows, a) => {
      for (const row of rows) {
        const at = head * queryLength + row
        gap[at] = clear[a] ? Number.POSITIVE_INFINITY : 0
        keys.forEach((tokens, c) => {
          for (const key of tokens) {
            kept[at * keyLength + key] = blocks[a]![c] ? 1 : 0
            scores[at * keyLength + key] = weights[a]![c]! / tokens.length
          }
        })
      }
    })
  }
  // Where weights are no better than rounding, either choice is as good.
  const mass = scores.map((score, pair) => (gap[Math.floor(pair / keyLength)] === 0 ? 0 : score))
  return { blockQ: 1, blockK: 1, kept, scores, gap, mass }
}

function everything({ batch, queryHeads, queryLength, keyLength }: ReferenceInput): ReferenceSelection {
  const blocks = batch * queryHeads * Math.ceil(queryLength / 64) * Math.ceil(keyLength / 64)
  return { blockQ: 64, blockK: 64, kept: new Uint8Array(blocks).fill(1) }
}

/** The tokens of each block of a head; throws unless each token is in one. */
function clustersOf(order: Int32Array, starts: Int32Array, head: number, length: number, blocks: number): Clusters {
  const tokens = Array.from(order.subarray(head * length, (head + 1) * length))
  const own = starts.subarray(head * (blocks + 1), (head + 1) * (blocks + 1))
  if (new Set(tokens).size !== length || own[0] !== 0 || own[blocks] !== length)
    throw new Error(`the clusters of head ${head} do not hold each of ${length} tokens once`)
  return Array.from({ length: blocks }, (_, c) => tokens.slice(own[c], own[c + 1]))
}

/** How many tokens are clustered: those of the grid. */
const membersOf = ({ context }: ReferenceInput, length: number) =>
  Math.min(length, context.grid?.reduce((product, size) => product * size, 1) ?? length)

/** Text must be a cluster of its own, and after one iteration each token with the first row that it is nearest to. */
function checkClusters(
  input: ReferenceInput,
  values: Float64Array,
  head: number,
  length: number,
  clusters: Clusters,
  wanted: number,
  { initialIterations }: Required<SparseVideogen2Options>,
): void {
  const { headDim } = input
  const members = membersOf(input, length)
  const count = Math.min(wanted, members)
  if (clusters.length !== count + (members < length ? 1 : 0))
    throw new Error(`head ${head} has ${clusters.length} clusters for ${members} of ${length} tokens`)
  const text = Array.from({ length: length - members }, (_, i) => members + i)
  if (members < length && clusters[count]!.join() !== text.join()) throw new Error(`head ${head}: text is not apart`)
  if (initialIterations !== 1) return
  const row = (token: number) =>
    values.subarray((head * length + token) * headDim, (head * length + token + 1) * headDim)
  const centroids = sampleRows(count, members).map(row)
  const norm = (x: Float64Array) => Math.hypot(...x)
  clusters.slice(0, count).forEach((tokens, label) => {
    for (const token of tokens) {
      const distances = centroids.map((c) => dot(c, c) - 2 * dot(row(token), c))
      const nearest = distances.indexOf(Math.min(...distances))
      const difference = distances[label]! - distances[nearest]!
      // Sums of head_dim products in float32.
      const rounding = 1e-5 * (norm(row(token)) + norm(centroids[label]!)) * norm(centroids[label]!)
      if (difference > rounding || (difference === 0 && label !== nearest))
        throw new Error(`head ${head}: token ${token} is in cluster ${label}, ${difference} farther than ${nearest}`)
    }
  })
}

function selectOf(
  input: ReferenceInput,
  head: number,
  kvHead: number,
  queries: Clusters,
  keys: Clusters,
  { topP, minKeepRatio, keyClusters }: Required<SparseVideogen2Options>,
): { kept: boolean[][]; weights: number[][]; clear: boolean[] } {
  const { q, k, queryLength, keyLength, headDim, scale } = input
  const queryText = membersOf(input, queryLength) < queryLength
  const keyText = membersOf(input, keyLength) < keyLength
  const fewest = Math.floor(minKeepRatio * Math.min(keyClusters, membersOf(input, keyLength)))
  const queryMeans = queries.map((tokens) => meanOf(q, head * queryLength, headDim, tokens))
  const keyMeans = keys.map((tokens) => meanOf(k, kvHead * keyLength, headDim, tokens))
  const kept: boolean[][] = []
  const weights: number[][] = []
  const clear: boolean[] = []
  queries.forEach((rows, a) => {
    const scores = keyMeans.map((mean) => dot(queryMeans[a]!, mean) * scale)
    const sizes = keyMeans.map((mean) => dot(queryMeans[a]!.map(Math.abs), mean.map(Math.abs)) * Math.abs(scale))
    const candidates = keys.flatMap((tokens, c) => (tokens.length > 0 ? [c] : []))
    const largest = Math.max(...candidates.map((c) => scores[c]!))
    const weight = keys.map((tokens, c) => (tokens.length > 0 ? tokens.length * Math.exp(scores[c]! - largest) : 0))
    const total = weight.reduce((sum, x) => sum + x, 0)
    const all = (queryText && a === queries.length - 1) || rows.length === 0
    const order = [...candidates].sort((x, y) => weight[y]! - weight[x]! || x - y)
    // p and its product as float32 has them: sums of whole sizes are exact.
    const wanted = Math.fround(Math.fround(topP) * Math.fround(total))
    let before = 0
    let gap = Number.POSITIVE_INFINITY
    const chosen = keys.map(() => false)
    for (const [rank, c] of order.entries()) {
      if (rank >= fewest) gap = Math.min(gap, before === wanted ? Number.POSITIVE_INFINITY : Math.abs(wanted - before))
      if (rank >= fewest && before > wanted) {
        const difference = weight[order[rank - 1]!]! - weight[c]!
        if (difference > 0) gap = Math.min(gap, difference)
        break
      }
      chosen[c] = true
      before += weight[c]!
    }
    kept.push(keys.map((tokens, c) => tokens.length > 0 && (all || chosen[c]! || (keyText && c === keys.length - 1))))
    weights.push(weight.map((x) => x / total))
    // Means and products in float32 are off by so many parts of what was summed, and exp by as much again.
    const rounding = 1e-4 + 4e-6 * Math.max(...candidates.map((c) => sizes[c]!))
    clear.push(all || gap > rounding * total)
  })
  return { kept, weights, clear }
}

function meanOf(values: Float64Array, firstRow: number, headDim: number, tokens: readonly number[]): Float64Array {
  const mean = new Float64Array(headDim)
  for (const token of tokens) {
    for (let d = 0; d < headDim; d++) mean[d]! += values[(firstRow + token) * headDim + d]! / tokens.length
  }
  return mean
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let d = 0; d < a.length; d++) sum += a[d]! * b[d]!
  return sum
}
