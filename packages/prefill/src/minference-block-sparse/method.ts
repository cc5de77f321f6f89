import { type Dispatch, defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import {
  blockPool,
  chunkBytes,
  chunkRows,
  flashAttention,
  forcedBlocks,
  newBlockPlan,
  pooledScores,
  selectTopK,
} from '@sparse-attention/kernels'
import { minference } from '../minference.js'

export interface MinferenceBlockSparseOptions extends Readonly<Record<string, OptionValue>> {
  /**
   * Key blocks that each query block keeps, the forced ones (block 0 and the diagonal, when causal) included. Default
   * 100, the paper's; 65536 is dense for 4M tokens.
   */
  readonly topK: number
  /** Tokens per side of a block, 64 or 128; default 64, the paper's. */
  readonly blockSize: number
}

/** Scores kept in scratch at once; longer inputs are scored and selected in chunks of rows. */
const SCORE_BYTES = 64 * 2 ** 20

/**
 * The block-sparse pattern of MInference 1.0: products of mean-pooled queries and keys rank blocks, and each row of blocks
 * keeps the k best. Causal and not causal; arXiv 2407.02490, §3.2.
 */
export const minferenceBlockSparse: MethodFactory<MinferenceBlockSparseOptions> =
  defineMethod<MinferenceBlockSparseOptions>({
    id: 'minference-block-sparse',
    title: 'MInference block-sparse',
    phase: 'prefill',
    summary: 'Ranks 64×64 blocks by mean-pooled queries and keys and keeps the k best of each row.',
    citation: minference,
    options: {
      topK: {
        type: 'number',
        default: 100,
        min: 1,
        max: 65536,
        integer: true,
        description: 'Key blocks that each query block keeps',
      },
      blockSize: { type: 'choice', default: 64, choices: [64, 128], description: 'Tokens per side of a block' },
    },
    capabilities: {
      causal: [true, false],
      queryLength: 'any',
      dtypes: ['f32', 'f16'],
      headDim: { multipleOf: 8, max: 256 },
    },
    neutral: { topK: 65536 },
    // A quarter of the key blocks: of causal pairs 2/4 − 1/16 = 0.44, a little more where blocks are few.
    scaled: (keyLength) => ({ topK: Math.max(2, Math.round(keyLength / 256)), blockSize: 64 }),

    async create(runtime, config, { topK, blockSize }) {
      const { causal } = config
      const [pool, score, forced, select, attend] = await Promise.all([
        blockPool(runtime, config, blockSize),
        pooledScores(runtime, config),
        forcedBlocks(runtime, causal, { sinkBlocks: causal ? 1 : 0, diagonal: causal }),
        selectTopK(runtime, causal),
        flashAttention(runtime, config),
      ])
      return {
        plan(frame) {
          const queryBlocks = Math.ceil(frame.queryLength / blockSize)
          const keyBlocks = Math.ceil(frame.keyLength / blockSize)
          if (topK >= keyBlocks) return { plan: { kind: 'dense' }, dispatches: [] }

          const heads = frame.batch * frame.queryHeads
          const plan = newBlockPlan(frame, blockSize, blockSize)
          const chunks = chunkRows(queryBlocks, keyBlocks, 1, heads, SCORE_BYTES)

          const qMeans = frame.scratch(heads * queryBlocks * frame.headDim * 4)
          const kMeans = frame.scratch(frame.batch * frame.kvHeads * keyBlocks * frame.headDim * 4)
          const scores = frame.scratch(chunkBytes(heads, chunks[0]!))
          const rank: Dispatch[] = chunks.flatMap((chunk) => [
            score(frame, plan, chunk, qMeans, kMeans, scores),
            select(plan, chunk, scores, topK),
          ])
          return { plan, dispatches: [pool(frame.q, qMeans), pool(frame.k, kMeans), forced(plan), ...rank] }
        },
        attend,
        dispose: () => {},
      }
    },
  })
