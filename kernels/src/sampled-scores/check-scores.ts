import type { AttentionShape, DType, Runtime } from '@sparse-attention/core'
import { makeInputs } from '@sparse-attention/testing'
import type { HeadRange, SampledRows } from '../shared/sampled-rows.js'
import { testFrame } from '../shared/test-frame.js'
import { sampledScoresReference } from './reference.js'
import { sampledScores } from './sampled-scores.js'

/** The lowest finite number in f32: −∞ and NaN of the reference. */
export const lowest = -3.4028234663852886e38

export interface ScoresCase {
  readonly dtype: DType
  readonly causal: boolean
  /** Listed rows, or how many of the last ones. */
  readonly rows: readonly number[] | number
  readonly heads?: HeadRange
  /** Element of k that is replaced, and by what. */
  readonly poison?: readonly [at: number, value: number]
}

/** Scores sampled rows of random tensors and compares every cell with float64; returns the scores. */
export async function checkScores(
  runtime: Runtime,
  shape: AttentionShape,
  { dtype, causal, rows, heads, poison }: ScoresCase,
): Promise<Float32Array> {
  const { batch, queryHeads, queryLength, keyLength } = shape
  const inputs = makeInputs('gaussian', shape, dtype, 4)
  if (poison) inputs.k[poison[0]] = poison[1]
  const config = { ...shape, dtype, causal, scale: 0.125 }
  using frame = testFrame(runtime, shape, inputs, config)
  const given = typeof rows !== 'number'
  const list = given ? rows : Array.from({ length: rows }, (_, r) => queryLength - rows + r)
  const indices = frame.memory([list.length])
  runtime.device.queue.writeBuffer(indices.buffer, 0, Int32Array.from(list))
  const sampled: SampledRows = given ? { count: list.length, indices } : { count: list.length }
  const range = heads ?? { first: 0, count: batch * queryHeads }
  const scores = frame.memory([range.count, list.length, keyLength])
  const record = await sampledScores(runtime, config, given ? 'given' : 'last')
  await frame.submit([record(frame.frame, sampled, range, scores)])
  const actual = await frame.floats(scores)
  const all = sampledScoresReference(shape, inputs.q, inputs.k, list, { causal, scale: 0.125 })
  const cells = list.length * keyLength
  const expected = all.subarray(range.first * cells, (range.first + range.count) * cells)
  for (let i = 0; i < expected.length; i++) {
    const wanted = expected[i]! > Number.NEGATIVE_INFINITY ? Math.min(expected[i]!, -lowest) : lowest
    // Sums of head_dim products of size about 1, scaled by 1/8: float32 rounds each to 1e-7 of it.
    const close = Math.abs(actual[i]! - wanted) <= 1e-5
    if (!close) throw new Error(`cell ${i} of [heads, rows, keys] is ${actual[i]}, not ${wanted}`)
  }
  return actual
}
