import { type HostPlan, SparseAttentionError } from '@sparse-attention/core'

/** Which regions each region attends to. */
export interface RegionRoutes {
  readonly batch: number
  /** 1 where all heads share their routes, else the query heads. */
  readonly heads: number
  /** Regions R, counted row after row of the grid. */
  readonly regions: number
  /** Regions that each attends to. */
  readonly topK: number
  /** i32[B, heads, R, topK], ascending; −1 behind the last one of a row that has fewer. */
  readonly routes: Int32Array
}

/**
 * The routes of a plan that was read, for pictures and statistics: `regionRoutes(await plan.read())`. `regionRectangle` says
 * where a region lies, `regionAffinity` how they were ranked, `regionMass` what dense attention would have read.
 *
 * @throws INVALID_ARGUMENT for a plan that is not of regions. Where `plan.path` is 'dense' every region reads all of them.
 */
export function regionRoutes(plan: HostPlan): RegionRoutes {
  if (plan.kind !== 'variable-block' || plan.queryBlocks !== plan.keyBlocks) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `A plan of kind '${plan.kind}' has no regions.`,
      fix: "Pass the plan of a method over regions, where its path is 'sparse'.",
      where: 'plan',
    })
  }
  const { batch, queryHeads, keyBlocks: regions } = plan
  const words = Math.ceil(regions / 32)
  const row = regions * words
  const bits = (head: number) => plan.bitmap.subarray(head * row, (head + 1) * row)
  const sameAsFirst = (head: number) => {
    const first = bits(Math.floor(head / queryHeads) * queryHeads)
    return bits(head).every((word, i) => word === first[i])
  }
  const heads = Array.from({ length: batch * queryHeads }, (_, head) => head).every(sameAsFirst) ? 1 : queryHeads
  const lists: number[][] = []
  for (let head = 0; head < batch * heads; head++) {
    const of = bits(heads === 1 ? head * queryHeads : head)
    for (let r = 0; r < regions; r++) {
      const list: number[] = []
      for (let c = 0; c < regions; c++) if ((of[r * words + (c >> 5)]! >>> (c & 31)) & 1) list.push(c)
      lists.push(list)
    }
  }
  // Not Math.max(...): there may be more rows than a call takes arguments.
  const topK = lists.reduce((most, list) => Math.max(most, list.length), 0)
  const routes = new Int32Array(lists.length * topK).fill(-1)
  lists.forEach((list, i) => {
    routes.set(list, i * topK)
  })
  return { batch, heads, regions, topK, routes }
}
