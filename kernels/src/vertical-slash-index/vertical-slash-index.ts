import {
  type AttentionFrame,
  type Dispatch,
  planElements,
  type Runtime,
  type StripePlanData,
} from '@sparse-attention/core'
import type { HeadLists } from '../select-lists/select-lists.js'
import { checkInteger, checkWords } from '../shared/check.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitSlashTiles, emitVerticalSlashIndex, slashTilesUniforms, TILE, verticalSlashIndexUniforms } from './emit.js'

/**
 * @param frame     gives scratch
 * @param plan      of `newVerticalSlashPlan`: its counts and indices are written whole
 * @param verticals key columns of each head of the plan
 * @param slashes   offsets of each head, position of the query minus key: 0 is the diagonal
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type VerticalSlashIndex = (
  frame: Pick<AttentionFrame, 'scratch'>,
  plan: StripePlanData,
  verticals: HeadLists,
  slashes: HeadLists,
) => readonly Dispatch[]

/**
 * Turns the verticals and slashes of each head into the keys of each block of 64 query rows (MInference, arXiv 2407.02490,
 * §3.2): 64-key tiles, at any offset, that cover the slashes, and the verticals outside of them as single columns. Every
 * visible pair that a vertical or a slash asks for is in the plan once; tiles hold up to 63 keys to either side besides. The
 * tiles of a head are the same for all of its row blocks, in distances from the block.
 *
 * Cost: a step an entry and row block; lists read once for each row block, mostly from the cache, the plan written once.
 */
export async function verticalSlashIndex(runtime: Runtime): Promise<VerticalSlashIndex> {
  const [cover, index] = await Promise.all([runtime.kernel(emitSlashTiles()), runtime.kernel(emitVerticalSlashIndex())])
  return (frame, plan, verticals, slashes) => {
    const [tiles, columns] = plan.lists
    const heads = plan.batch * plan.heads
    const queryBlocks = Math.ceil(plan.queryLength / TILE)
    checkInteger('plan.blockQ', plan.blockQ, TILE, TILE)
    checkInteger('plan.lists', plan.lists.length, 2, 2)
    checkInteger('plan.lists[0].width', tiles!.width, TILE, TILE)
    checkInteger('plan.lists[1].width', columns!.width, 1, 1)
    checkInteger('heads', heads, 1, 65535)
    checkInteger('query blocks', queryBlocks, 1, 65535)
    checkWords('verticals.counts', verticals.counts, heads)
    checkWords('verticals.indices', verticals.indices, heads * verticals.capacity)
    checkWords('slashes.counts', slashes.counts, heads)
    checkWords('slashes.indices', slashes.indices, heads * slashes.capacity)
    const buckets = Math.ceil(plan.keyLength / TILE) + 1
    const tileOf = frame.scratch(heads * buckets * 4)
    const elements = planElements(plan)
    return [
      {
        kernel: cover,
        bindings: [
          runtime.uniforms.get(packUniforms(slashTilesUniforms, { slash_capacity: slashes.capacity, buckets })),
          ...[slashes.counts, slashes.indices, tileOf],
        ],
        workgroups: [heads, 1, 1],
        cost: { operations: heads * slashes.capacity, bytes: 4 * heads * (slashes.capacity + buckets) },
      },
      {
        kernel: index,
        bindings: [
          runtime.uniforms.get(
            packUniforms(verticalSlashIndexUniforms, {
              heads,
              query_blocks: queryBlocks,
              query_offset: plan.keyLength - plan.queryLength,
              vertical_capacity: verticals.capacity,
              buckets,
              tile_capacity: tiles!.capacity,
              column_capacity: columns!.capacity,
            }),
          ),
          ...[verticals.counts, verticals.indices, tileOf, plan.counts, plan.indices],
        ],
        workgroups: [queryBlocks, heads, 1],
        cost: {
          operations: heads * queryBlocks * (verticals.capacity + buckets),
          bytes: 4 * (heads * (verticals.capacity + buckets) + elements.counts + elements.indices),
        },
      },
    ]
  }
}

/**
 * An unwritten plan for a call, of tiles and columns for each block of 64 query rows of each query head, in the attention's
 * own plan memory, with room for what so many verticals and slashes can need.
 */
export function newVerticalSlashPlan(frame: AttentionFrame, verticals: number, slashes: number): StripePlanData {
  const { batch, queryHeads, queryLength, keyLength, causal } = frame
  const plan = {
    kind: 'stripe',
    ...{ batch, queryHeads, queryLength, keyLength, causal, blockQ: TILE, heads: queryHeads },
    lists: [
      // Tiles of a row are disjoint, so there are never more than cover the keys and one at either end.
      { width: TILE, capacity: Math.min(slashes, Math.ceil(keyLength / TILE) + 1) },
      // Of a tile that begins before key 0, up to 63 keys are columns.
      { width: 1, capacity: Math.min(verticals + TILE - 1, keyLength) },
    ],
  } as const
  const elements = planElements(plan)
  return { ...plan, counts: frame.planBuffer(elements.counts * 4), indices: frame.planBuffer(elements.indices * 4) }
}
