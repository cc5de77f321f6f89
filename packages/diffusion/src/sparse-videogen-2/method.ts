import {
  type AttentionFrame,
  type BufferSlice,
  type Dispatch,
  defineMethod,
  type MethodFactory,
  type OptionValue,
  type PermutedPlanData,
  StateEntries,
  type Tensor,
} from '@sparse-attention/core'
import { groupCount, kMeans, permutedAttention, pooledScores, selectClusters } from '@sparse-attention/kernels'
import { denseStartOptions, isDenseStart } from '../dense-start.js'
import { firstRows } from '../first-rows.js'

export interface SparseVideogen2Options extends Readonly<Record<string, OptionValue>> {
  /** Clusters of the queries of each head. Default 100, the paper's; its scripts have 300 for Wan 2.1 and 400 for HunyuanVideo. */
  readonly queryClusters: number
  /** Clusters of the keys of each KV head. Default 500, the paper's; its scripts have 1000. */
  readonly keyClusters: number
  /** Share p of the weight that centroids promise, which each cluster of queries keeps. 1 is dense. Default 0.9. */
  readonly topP: number
  /** Share of the clusters of keys that each cluster of queries keeps at least. 1 is dense. Default 0.1. */
  readonly minKeepRatio: number
  /** Iterations of k-means in a layer's first sparse call of a video. Default 50. */
  readonly initialIterations: number
  /** In later calls, which start from the centroids before. Default 2. */
  readonly iterations: number
  /** Steps at the start, and layers from the first on, that are computed densely. Default 0; the paper has 30 % of the steps. */
  readonly denseSteps: number
  readonly denseLayers: number
}

/** What is carried from step to step: f32 [B·H, groups, D]. */
interface Centroids {
  readonly queries: BufferSlice
  readonly keys: BufferSlice
}

/**
 * Sparse VideoGen2: tokens that matter to each other are alike, wherever they lie. Queries and keys are clustered by k-means, which
 * goes on from the step before; centroids say which clusters see which; tokens are brought into the order of their clusters, and
 * attention runs over blocks of those; arXiv 2505.18875. Tokens behind the grid of the context, such as a prompt, are not
 * clustered: they see everything and are seen by all.
 */
export const sparseVideogen2: MethodFactory<SparseVideogen2Options> = defineMethod<SparseVideogen2Options>({
  id: 'sparse-videogen-2',
  title: 'Sparse VideoGen2',
  phase: 'diffusion',
  summary: 'Clusters queries and keys by content and keeps the clusters that centroids say matter.',
  citation: {
    title: 'Sparse VideoGen2: Accelerate Video Generation with Sparse Attention via Semantic-Aware Permutation',
    authors: 'Yang, Xi, Zhao, Li, Zhang, Cai, et al.',
    year: 2025,
    arxiv: '2505.18875',
    url: 'https://arxiv.org/abs/2505.18875',
  },
  options: {
    queryClusters: {
      type: 'number',
      default: 100,
      min: 1,
      max: 4095,
      integer: true,
      description: 'Clusters of queries',
    },
    keyClusters: { type: 'number', default: 500, min: 1, max: 4095, integer: true, description: 'Clusters of keys' },
    topP: {
      type: 'number',
      default: 0.9,
      min: 0,
      max: 1,
      description: 'Share of the weight that each cluster of queries keeps, by centroids',
    },
    minKeepRatio: {
      type: 'number',
      default: 0.1,
      min: 0,
      max: 1,
      description: 'Share of the clusters of keys that are kept at least',
    },
    initialIterations: {
      type: 'number',
      default: 50,
      min: 1,
      max: 1000,
      integer: true,
      description: 'Iterations of k-means in the first call of a video',
    },
    iterations: {
      type: 'number',
      default: 2,
      min: 1,
      max: 1000,
      integer: true,
      description: 'Iterations of k-means in later calls',
    },
    ...denseStartOptions,
  },
  capabilities: {
    causal: [false],
    queryLength: 'any',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
    state: true,
    grid: 'optional',
  },
  neutral: { topP: 1, minKeepRatio: 1 },
  // About 64 queries and 32 keys a cluster, as the scripts have at 33k tokens; fewer of either fill no tile of the kernels.
  scaled: (keyLength) => ({
    queryClusters: Math.max(4, Math.min(300, Math.round(keyLength / 64))),
    keyClusters: Math.max(8, Math.min(1000, Math.round(keyLength / 32))),
  }),

  async create(runtime, config, options) {
    const { topP, minKeepRatio, initialIterations, iterations } = options
    const [cluster, score, select, attend] = await Promise.all([
      kMeans(runtime, config),
      pooledScores(runtime, config),
      selectClusters(runtime),
      permutedAttention(runtime, config, { plan: 'variable-block' }),
    ])
    const rows = firstRows(runtime)

    /** Clusters of the tokens of a grid, and one of the rest. */
    const clustersOf = ({ context, batch, headDim }: AttentionFrame, x: Tensor, wanted: number) => {
      const [, heads, length] = x.shape as [number, number, number]
      const members = Math.min(length, context.grid?.reduce((product, size) => product * size, 1) ?? length)
      const clusters = Math.min(wanted, members)
      const segments = batch * heads
      const groups = groupCount({ clusters, members }, length)
      return { x, clusters, members, groups, segments, length, centroidBytes: segments * groups * headDim * 4 }
    }

    return {
      permutedPlans: true,
      createState: () => new StateEntries<Centroids>(runtime),
      plan(frame) {
        if (isDenseStart(frame.context, options) || topP >= 1 || minKeepRatio >= 1)
          return { plan: { kind: 'dense' }, dispatches: [] }

        const q = clustersOf(frame, frame.q, options.queryClusters)
        const k = clustersOf(frame, frame.k, options.keyClusters)
        const { entry, fresh } = (frame.state as StateEntries<Centroids>).entry(frame, (allocate) => ({
          queries: allocate(q.centroidBytes),
          keys: allocate(k.centroidBytes),
        }))
        /** Goes on from the centroids before, or from some of the tokens. */
        const arrange = ({ x, ...shape }: typeof q, centroids: BufferSlice) => {
          const { segments, groups, length, clusters, members } = shape
          const sizes = frame.scratch(segments * groups * 4)
          const order = frame.planBuffer(segments * length * 4)
          const starts = frame.planBuffer(segments * (groups + 1) * 4)
          const memory = { centroids, labels: frame.scratch(segments * length * 4), sizes, order, starts }
          const begin = fresh ? { iterations: initialIterations, rows: rows.get(shape) } : { iterations }
          return { sizes, order, starts, dispatches: cluster(frame, x, memory, { clusters, members, ...begin }) }
        }
        const queries = arrange(q, entry.queries)
        const keys = arrange(k, entry.keys)

        const { batch, queryHeads, kvHeads, queryLength, keyLength, causal } = frame
        const blocks = { queryBlocks: q.groups, keyBlocks: k.groups, keyHeads: kvHeads }
        const rowsOfBits = batch * queryHeads * q.groups
        const plan: PermutedPlanData = {
          kind: 'variable-block',
          ...{ batch, queryHeads, queryLength, keyLength, causal, ...blocks },
          bitmap: frame.planBuffer(rowsOfBits * Math.ceil(k.groups / 32) * 4),
          queryStarts: queries.starts,
          keyStarts: keys.starts,
          permutation: { keyHeads: kvHeads, queries: queries.order, keys: keys.order },
        }
        const weights = frame.scratch(rowsOfBits * k.groups * 4)
        const chunk = { firstRow: 0, rows: q.groups, columns: k.groups }
        const estimate: Dispatch = score(frame, centroidGrid(plan), chunk, entry.queries, entry.keys, weights)
        const rule = {
          topP,
          fewest: Math.floor(minKeepRatio * k.clusters),
          lastKeepsAll: q.groups > q.clusters,
          lastIsKept: k.groups > k.clusters,
        }
        return {
          plan,
          dispatches: [
            ...queries.dispatches,
            ...keys.dispatches,
            estimate,
            select(frame, plan, weights, keys.sizes, rule),
          ],
        }
      },
      attend,
      dispose: () => rows.dispose(),
    }
  },
})

/** Centroids as blocks of one token, for the scores of all pairs of them. */
function centroidGrid({
  batch,
  queryHeads,
  queryBlocks,
  keyBlocks,
  bitmap,
}: PermutedPlanData & { kind: 'variable-block' }) {
  const lengths = { queryLength: queryBlocks, keyLength: keyBlocks, blockQ: 1, blockK: 1 }
  return { kind: 'block', batch, queryHeads, causal: false, ...lengths, bitmap } as const
}
