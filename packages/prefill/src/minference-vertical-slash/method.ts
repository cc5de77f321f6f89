import { defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import {
  flashAttention,
  newVerticalSlashPlan,
  perHeadTables,
  sampledWeights,
  selectLists,
  verticalSlashIndex,
} from '@sparse-attention/kernels'
import { minference } from '../minference.js'

export interface MinferenceVerticalSlashOptions extends Readonly<Record<string, OptionValue>> {
  /** Key columns that every query of a head sees, sinks included; a number or [layer][head]. Default 1000, the code's. */
  readonly vertical: number | readonly (readonly number[])[]
  /** Diagonals of a head, local window included, likewise. Default 6096, the code's; 4194304 is dense for 4M tokens. */
  readonly slash: number | readonly (readonly number[])[]
  /** First keys that are among the columns whatever their weight and number. Default 30, the code's. */
  readonly sink: number
  /** Distances 0, 1, … that are among the diagonals whatever their weight and number. Default 100, the code's. */
  readonly localWindow: number
}

/** Last queries that the weights are estimated from. */
const SAMPLED_ROWS = 64

const MAX_TOKENS = 2 ** 22

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
    citation: minference,
    options: {
      vertical: {
        type: 'per-head',
        ...{ default: 1000, min: 1, max: MAX_TOKENS },
        description: 'Key columns that every query of a head sees',
      },
      slash: {
        type: 'per-head',
        ...{ default: 6096, min: 1, max: MAX_TOKENS },
        description: 'Diagonals that every query of a head sees',
      },
      sink: {
        type: 'number',
        ...{ default: 30, min: 0, max: MAX_TOKENS, integer: true },
        description: 'First keys that are always among the columns',
      },
      localWindow: {
        type: 'number',
        ...{ default: 100, min: 1, max: MAX_TOKENS, integer: true },
        description: 'Nearest distances that are always among the diagonals',
      },
    },
    capabilities: {
      causal: [true],
      queryLength: 'any',
      dtypes: ['f32', 'f16'],
      headDim: { multipleOf: 8, max: 256 },
    },
    neutral: { slash: MAX_TOKENS },
    // A diagonal costs a tile of 64 keys a row of blocks unless others are near, so there are few besides the window.
    scaled(keyLength) {
      const share = (parts: number) => Math.max(1, Math.round(keyLength / parts))
      const localWindow = Math.min(100, share(32))
      return { vertical: share(16), slash: localWindow + share(512), sink: Math.min(30, share(64)), localWindow }
    },

    async create(runtime, config, { vertical, slash, sink, localWindow }) {
      const { queryHeads } = config
      const [weigh, select, index, attend] = await Promise.all([
        sampledWeights(runtime, config, 'last'),
        selectLists(runtime),
        verticalSlashIndex(runtime),
        flashAttention(runtime, config, { plan: 'stripe' }),
      ])
      const tables = perHeadTables(runtime, { vertical, slash }, queryHeads)
      const { vertical: verticals, slash: slashes } = tables
      return {
        plan(frame) {
          const { keyLength, context } = frame
          const verticalSizes = verticals.layer(context.layer) * queryHeads
          const slashSizes = slashes.layer(context.layer) * queryHeads
          const reach = Math.max(verticals.min, slashes.min, sink, localWindow)
          if (reach >= keyLength) return { plan: { kind: 'dense' }, dispatches: [] }

          const shape = { heads: frame.batch * queryHeads, length: keyLength }
          const columnWeights = frame.scratch(shape.heads * keyLength * 4)
          const diagonalWeights = frame.scratch(shape.heads * keyLength * 4)
          const rows = { count: Math.min(SAMPLED_ROWS, frame.queryLength) }
          const weights = weigh(frame, rows, columnWeights, diagonalWeights)

          const ofHead = ({ slice: values, max: most }: typeof verticals, first: number) => ({
            ...{ values, first, heads: queryHeads, most },
          })
          const { lists, dispatch } = select(frame, shape, [
            { scores: columnWeights, topK: ofHead(verticals, verticalSizes), forced: sink },
            { scores: diagonalWeights, topK: ofHead(slashes, slashSizes), forced: localWindow },
          ])
          const [columns, diagonals] = lists
          const plan = newVerticalSlashPlan(frame, columns!.capacity, diagonals!.capacity)
          return { plan, dispatches: [...weights, dispatch, ...index(frame, plan, columns!, diagonals!)] }
        },
        attend,
        dispose() {
          verticals.dispose()
          slashes.dispose()
        },
      }
    },
  })
