import {
  type Dispatch,
  defineMethod,
  type MethodFactory,
  type OptionSpec,
  type OptionValue,
} from '@sparse-attention/core'
import {
  bitmapToList,
  columnSums,
  diagonalSums,
  entryPlan,
  flashAttention,
  forcedBlocks,
  headRanges,
  newVerticalSlashPlan,
  rowStatistics,
  sampledScores,
  selectTopK,
  verticalSlashIndex,
} from '@sparse-attention/kernels'

export interface MinferenceVerticalSlashOptions extends Readonly<Record<string, OptionValue>> {
  /** Key columns that every query of a head sees, the sinks included. Default 1000, the code's for any model. */
  readonly vertical: number
  /** Diagonals of a head, the local window included. Default 6096, the code's; 4194304 is dense for 4M tokens. */
  readonly slash: number
  /** First keys that are among the columns whatever their weight. Default 30, the code's. */
  readonly sink: number
  /** Distances 0, 1, … that are among the diagonals whatever their weight. Default 100, the code's. */
  readonly localWindow: number
}

/** Last queries that the weights are estimated from. */
const SAMPLED_ROWS = 64

/** Scores kept in scratch at once; more heads are estimated one after another. */
const SCORE_BYTES = 64 * 2 ** 20

const tokens = (usual: number, min: number, description: string): OptionSpec & { type: 'number' } => ({
  type: 'number',
  ...{ default: usual, min, max: 2 ** 22, integer: true, description },
})

/**
 * The vertical-slash pattern of MInference 1.0: the last 64 queries show which key columns and which diagonals of a head
 * matter, and all of its queries see the heaviest of both. Causal; arXiv 2407.02490, §3.2.
 *
 * The plan is the same for all rows and made from the last ones: outputs of early rows depend on later queries.
 */
export const minferenceVerticalSlash: MethodFactory<MinferenceVerticalSlashOptions> =
  defineMethod<MinferenceVerticalSlashOptions>({
    id: 'minference-vertical-slash',
    title: 'MInference vertical-slash',
    phase: 'prefill',
    summary: 'Keeps the key columns and the diagonals of each head that its last 64 queries attend to most.',
    citation: {
      title: 'MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention',
      authors: 'Jiang, Li, Zhang, Wu, Luo, Ahn, Han, Abdi, Li, Lin, Yang, Qiu',
      year: 2024,
      arxiv: '2407.02490',
      url: 'https://arxiv.org/abs/2407.02490',
    },
    options: {
      vertical: tokens(1000, 1, 'Key columns that every query of a head sees'),
      slash: tokens(6096, 1, 'Diagonals that every query of a head sees'),
      sink: tokens(30, 0, 'First keys that are always among the columns'),
      localWindow: tokens(100, 1, 'Nearest distances that are always among the diagonals'),
    },
    capabilities: {
      causal: [true],
      queryLength: 'any',
      dtypes: ['f32', 'f16'],
      headDim: { multipleOf: 8, max: 256 },
    },
    neutral: { slash: 2 ** 22 },
    // A diagonal costs a tile of 64 keys a row of blocks unless others are near, so there are few besides the window.
    scaled(keyLength) {
      const share = (parts: number) => Math.max(1, Math.round(keyLength / parts))
      const localWindow = Math.min(100, share(32))
      return { vertical: share(16), slash: localWindow + share(512), sink: Math.min(30, share(64)), localWindow }
    },

    async create(runtime, config, { vertical, slash, sink, localWindow }) {
      const forcedVerticals = { sinkBlocks: Math.min(sink, vertical), diagonal: false }
      const forcedSlashes = { sinkBlocks: Math.min(localWindow, slash), diagonal: false }
      const [scores, statistics, columns, diagonals, sinks, window, select, list, index, attend] = await Promise.all([
        sampledScores(runtime, config, 'last'),
        rowStatistics(runtime),
        columnSums(runtime),
        diagonalSums(runtime, 'last'),
        forcedBlocks(runtime, false, forcedVerticals),
        forcedBlocks(runtime, false, forcedSlashes),
        selectTopK(runtime, false, { invocations: 256 }),
        bitmapToList(runtime),
        verticalSlashIndex(runtime),
        flashAttention(runtime, config, { plan: 'stripe' }),
      ])
      return {
        plan(frame) {
          const { keyLength } = frame
          if (Math.max(vertical, slash) >= keyLength) return { plan: { kind: 'dense' }, dispatches: [] }

          const heads = frame.batch * frame.queryHeads
          const rows = { count: Math.min(SAMPLED_ROWS, frame.queryLength) }
          const ranges = headRanges(heads, rows.count * keyLength * 4, SCORE_BYTES)
          const cells = frame.scratch(ranges[0]!.count * rows.count * keyLength * 4)
          const rowStats = frame.scratch(ranges[0]!.count * rows.count * 8)
          const verticalWeights = frame.scratch(heads * keyLength * 4)
          const slashWeights = frame.scratch(heads * keyLength * 4)
          const estimate: Dispatch[] = ranges.flatMap((range) => [
            scores(frame, rows, range, cells),
            statistics({ heads: range.count, rows: rows.count, columns: keyLength }, cells, rowStats),
            columns(range, { rows: rows.count, columns: keyLength }, cells, rowStats, verticalWeights),
            diagonals(frame, rows, range, cells, rowStats, slashWeights),
          ])

          const selectList = (force: typeof sinks, weights: typeof cells, k: number) => {
            const entries = entryPlan(heads, keyLength, frame.scratch(heads * Math.ceil(keyLength / 32) * 4))
            const lists = { capacity: k, counts: frame.scratch(heads * 4), indices: frame.scratch(heads * k * 4) }
            const dispatches = [
              force(entries),
              select(entries, { firstRow: 0, rows: 1, columns: keyLength }, weights, k),
              list({ heads, rows: 1, length: keyLength, capacity: k }, entries.bitmap, lists.counts, lists.indices),
            ]
            return { lists, dispatches }
          }
          const verticals = selectList(sinks, verticalWeights, vertical)
          const slashes = selectList(window, slashWeights, slash)
          const plan = newVerticalSlashPlan(frame, vertical, slash)
          const dispatches = [
            ...estimate,
            ...verticals.dispatches,
            ...slashes.dispatches,
            ...index(plan, verticals.lists, slashes.lists),
          ]
          return { plan, dispatches }
        },
        attend,
        dispose: () => {},
      }
    },
  })
