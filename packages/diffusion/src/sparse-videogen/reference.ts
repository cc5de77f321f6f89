import type { HostBlockPlan, HostPermutedPlan } from '@sparse-attention/core'
import type { Reference, ReferenceInput, ReferenceSelection } from '@sparse-attention/testing'
import { sampleRows } from '../first-rows.js'
import { bandReach, bandShare, profileReach } from './band.js'
import type { SparseVideogenOptions } from './method.js'

/**
 * Sparse VideoGen's selection in plain loops (arXiv 2502.01776, §4 and Algorithm 1): outputs of sampled rows under two masks, the
 * better of which is the head's kind, and a band over tokens as they lie or place after place. Where both masks are as good,
 * within rounding, the kind is the plan's.
 */
export const sparseVideogenReference: Reference<SparseVideogenOptions> = (input, options) => {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, context } = input
  const { layer = 0, step = 0, grid } = context
  const { density, blockSize, sinkFrames, denseSteps, denseLayers } = options
  if (!input.plan || density >= 1 || step < denseSteps || layer < denseLayers) return everything(input)
  const plan = input.plan as HostPermutedPlan & HostBlockPlan
  const [frames, height, width] = grid as [number, number, number]
  const frameLength = height * width
  const tokens = frames * frameLength
  const position = (token: number) =>
    token < tokens ? (token % frameLength) * frames + Math.floor(token / frameLength) : token
  const reach = bandReach(tokens, bandShare(density, keyLength, keyLength - tokens), blockSize)
  const blockOf = (at: number) => Math.floor(at / blockSize)
  /** Does a block hold text? */
  const textFrom = (at: number) => Math.min((blockOf(at) + 1) * blockSize, keyLength) > tokens

  const kept = new Uint8Array(batch * queryHeads * queryLength * keyLength)
  for (let head = 0; head < batch * queryHeads; head++) {
    const kvHead = Math.floor(head / queryHeads) * kvHeads + Math.floor(((head % queryHeads) * kvHeads) / queryHeads)
    const { spatial, temporal, rounding } = profile(input, head, kvHead, frames, frameLength, position, options)
    const order = plan.permutation.queries.subarray(head * queryLength, (head + 1) * queryLength)
    const planned = order.some((token, i) => token !== i)
    const close = Math.abs(spatial - temporal) <= rounding * Math.max(spatial, temporal)
    const isTemporal = close ? planned : temporal < spatial
    const place = isTemporal ? position : (token: number) => token
    for (let row = 0; row < queryLength; row++) {
      for (let key = 0; key < keyLength; key++) {
        const [a, c] = [place(row), place(key)]
        const near = Math.abs(blockOf(a) - blockOf(c)) <= reach
        const first = blockOf(c) * blockSize < Math.min(tokens, sinkFrames * frameLength)
        if (near || first || textFrom(a) || textFrom(c)) kept[(head * queryLength + row) * keyLength + key] = 1
      }
    }
  }
  return { blockQ: 1, blockK: 1, kept }
}

function everything({ batch, queryHeads, queryLength, keyLength }: ReferenceInput): ReferenceSelection {
  const blocks = batch * queryHeads * Math.ceil(queryLength / 64) * Math.ceil(keyLength / 64)
  return { blockQ: 64, blockK: 64, kept: new Uint8Array(blocks).fill(1) }
}

/** Squared errors of the sampled rows under both masks, and how far they can be off in float32, relatively. */
function profile(
  { q, k, v, keyLength, queryLength, headDim, scale }: ReferenceInput,
  head: number,
  kvHead: number,
  frames: number,
  frameLength: number,
  position: (token: number) => number,
  { sampledRows, profileFrames, blockSize }: Required<SparseVideogenOptions>,
): { spatial: number; temporal: number; rounding: number } {
  const tokens = frames * frameLength
  const reach = profileReach(frameLength, profileFrames, blockSize)
  const near = (a: number, b: number) => Math.abs(Math.floor(a / blockSize) - Math.floor(b / blockSize)) < reach
  let [spatial, temporal, size, summed] = [0, 0, 0, 0]
  for (const row of sampleRows(Math.min(sampledRows, tokens), tokens)) {
    const scores = Array.from({ length: keyLength }, (_, key) => {
      let score = 0
      let magnitude = 0
      for (let d = 0; d < headDim; d++) {
        const product = q[(head * queryLength + row) * headDim + d]! * k[(kvHead * keyLength + key) * headDim + d]!
        score += product
        magnitude += Math.abs(product)
      }
      size = Math.max(size, magnitude * Math.abs(scale))
      return score * scale
    })
    const output = (keeps: (key: number) => boolean) => {
      const keys = scores.flatMap((_, key) => (key >= tokens || keeps(key) ? [key] : []))
      const largest = keys.reduce((most, key) => Math.max(most, scores[key]!), Number.NEGATIVE_INFINITY)
      const out = new Float64Array(headDim)
      let total = 0
      for (const key of keys) {
        const weight = Math.exp(scores[key]! - largest)
        total += weight
        for (let d = 0; d < headDim; d++) out[d]! += weight * v[(kvHead * keyLength + key) * headDim + d]!
      }
      return out.map((x) => x / total)
    }
    const full = output(() => true)
    const error = (out: Float64Array) => out.reduce((sum, x, d) => sum + (x - full[d]!) ** 2, 0)
    summed += full.reduce((sum, x) => sum + x * x, 0)
    spatial += error(output((key) => near(row, key)))
    temporal += error(output((key) => near(position(row), position(key))))
  }
  // Differences of nearly equal outputs lose what these have in common.
  const largest = Math.max(spatial, temporal)
  const rounding = 1e-4 + 1e-5 * size + (largest > 0 ? 1e-5 * Math.sqrt(summed / largest) : 1)
  return { spatial, temporal, rounding }
}
