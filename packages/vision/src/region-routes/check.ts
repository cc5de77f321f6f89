import { SparseAttentionError } from '@sparse-attention/core'
import type { GridRegions } from '@sparse-attention/kernels'
import type { HostQueriesAndKeys } from './affinity.js'

/**
 * Queries and keys must be of the tokens that the regions cut, in whole groups of heads.
 *
 * @throws INVALID_SHAPE
 */
export function checkQueriesAndKeys(
  { batch, queryHeads, kvHeads, headDim, q, k }: HostQueriesAndKeys,
  { height, width }: GridRegions,
): void {
  const grouped = Number.isInteger(queryHeads / kvHeads) && queryHeads > 0
  checkLength('q', q, batch * queryHeads * height * width * headDim)
  checkLength('k', k, batch * kvHeads * height * width * headDim)
  if (grouped) return
  throw new SparseAttentionError('INVALID_SHAPE', {
    message: `${queryHeads} query heads do not share ${kvHeads} KV heads.`,
    fix: 'Give a multiple of the KV heads as query heads.',
    where: 'queryHeads',
  })
}

/** @throws INVALID_SHAPE */
export function checkLength(name: string, values: ArrayLike<number>, length: number): void {
  if (values.length === length) return
  throw new SparseAttentionError('INVALID_SHAPE', {
    message: `${name} has ${values.length} numbers, not ${length}.`,
    fix: 'Give numbers of one batch, grid and number of heads.',
    where: name,
  })
}

/**
 * Regions that ask must be regions.
 *
 * @throws INVALID_ARGUMENT
 */
export function checkAsking(asking: readonly number[], count: number): void {
  const wrong = asking.find((region) => !(Number.isInteger(region) && region >= 0 && region < count))
  if (wrong === undefined && asking.length > 0) return
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: wrong === undefined ? 'No region asks.' : `Region ${wrong} asks, and there are ${count}.`,
    fix: `Name regions from 0 to ${count - 1}, or leave them out for all.`,
    where: 'asking',
  })
}
