import {
  type AttentionConfig,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Runtime,
  SparseAttentionError,
  type Tensor,
} from '@sparse-attention/core'
import { type KeyBits, type QuantizedKeys, quantizedKeyBytes } from '../quantize-keys/layout.js'
import { checkBits } from '../quantize-keys/quantize-keys.js'
import { bindTensor } from '../shared/bind.js'
import { checkInteger, checkRows, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { rowsTogether } from '../shared/rows-together.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitQuantizedScores, quantizedScoresUniforms, SCORED_TOKENS } from './emit.js'

/**
 * @param q         [B, Hq, Lq, D] of the dtype and head_dim compiled for, strided
 * @param keys      of B · kvHeads, packed by `quantizeKeys` in the same number of bits
 * @param keyLength tokens to score, the first of the cache
 * @param scale     factor on q · k̂
 * @param scores    f32 [B, Hq, Lq, keyLength], written; nothing is masked
 */
export type QuantizedScores = (
  q: Tensor,
  keys: QuantizedKeys,
  keyLength: number,
  scale: number,
  scores: BufferSlice,
) => readonly Dispatch[]

/**
 * Scores of all tokens from keys in 4 or 8 bits, for one query row of each head or several (Twilight, arXiv 2502.02770,
 * §4). Products are sums in f32 over the unpacked integers; with queries in 8 bits, sums of packed integers.
 *
 * Cost: 2 · B · Hq · Lq · Lk · D operations; packed keys once, an eighth (4 bits) or a quarter (8) of f32's bytes and 4 a token.
 *
 * @param kvHeads KV heads that the query heads share
 * @param rows    query rows that share one read of the keys, rounded up to 1, 2, 4 or 8: best is group size times query
 *   length. Default: the group size
 * @param queries 'exact', the default, or 'int8': each row rounded to steps of max|q| / 127, which moves a score by at most half a
 *   step times scale · Σ|k̂| and multiplies four elements at a time (`dot4I8Packed` where WGSL has it, the same bits elsewhere)
 * @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW, INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function quantizedScores(
  runtime: Runtime,
  {
    dtype,
    headDim,
    queryHeads,
    kvHeads,
  }: Pick<Required<AttentionConfig>, 'dtype' | 'headDim' | 'queryHeads' | 'kvHeads'>,
  bits: KeyBits,
  rows: number = queryHeads / kvHeads,
  queries: 'exact' | 'int8' = 'exact',
): Promise<QuantizedScores> {
  checkBits(bits)
  const groupSize = queryHeads / kvHeads
  checkInteger('queryHeads / kvHeads', groupSize, 1, 65535)
  checkInteger('rows', rows, 1, 2 ** 31)
  const together = rowsTogether(rows)
  const kernel = await runtime.kernel(
    emitQuantizedScores({
      dtype,
      headDim,
      bits,
      rows: together,
      queries,
      packedDot: runtime.wgslFeatures.has('packed_4x8_integer_dot_product'),
    }),
  )
  return (q, keys, keyLength, scale, scores) => {
    checkRows('q', q, { dtype, headDim })
    const [batch, heads, queryLength] = q.shape as [number, number, number, number]
    if (heads !== queryHeads) {
      throw new SparseAttentionError('INVALID_SHAPE', {
        message: `q has ${heads} heads, the scores were made for ${queryHeads}.`,
        fix: `Pass [B, ${queryHeads}, Lq, ${headDim}].`,
        where: 'q',
      })
    }
    const { packed, scales, capacity } = keys
    checkInteger('keyLength', keyLength, 1, capacity)
    const segments = batch * kvHeads
    const held = quantizedKeyBytes({ bits, headDim }, segments, capacity)
    checkWords('keys.packed', packed, held.packed / 4)
    checkWords('keys.scales', scales, held.scales / 4)
    const cells = batch * queryHeads * queryLength * keyLength
    checkWords('scores', scores, cells)
    const read = quantizedKeyBytes({ bits, headDim }, segments, keyLength)
    const bytes =
      read.packed + read.scales + cells * 4 + batch * queryHeads * queryLength * headDim * bytesPerElement[dtype]
    const bound = bindTensor(q)
    const rowBlocks = Math.ceil((groupSize * queryLength) / together)
    const total = segments * rowBlocks * Math.ceil(keyLength / SCORED_TOKENS)
    const operationsEach = 2 * SCORED_TOKENS * together * headDim
    return workgroupRanges(total, operationsEach, runtime.work.operationsPerDispatch).map((range) => ({
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(quantizedScoresUniforms, {
            ...range.uniforms,
            ...addressValues('q', bound),
            query_length: queryLength,
            kv_heads: kvHeads,
            group_size: groupSize,
            key_length: keyLength,
            capacity,
            scale,
          }),
        ),
        bound.slice,
        packed,
        scales,
        scores,
      ],
      workgroups: range.workgroups,
      cost: {
        operations: (range.count / total) * 2 * cells * headDim,
        bytes: (range.count / total) * bytes,
      },
    }))
  }
}
