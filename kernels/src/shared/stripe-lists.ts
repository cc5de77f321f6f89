import type { StripeList } from '@sparse-attention/core'

/** The lists of a stripe plan, at most two. */
export const stripeListUniforms = {
  lists: 'u32',
  width_0: 'u32',
  capacity_0: 'u32',
  width_1: 'u32',
  capacity_1: 'u32',
} as const

/** Stands for a list that is not there: kernels divide by its width. */
const noList: StripeList = { width: 1, capacity: 1 }

export function stripeListValues(lists: readonly StripeList[]): Record<keyof typeof stripeListUniforms, number> {
  const [first = noList, second = noList] = lists
  return {
    lists: lists.length,
    width_0: first.width,
    capacity_0: first.capacity,
    width_1: second.width,
    capacity_1: second.capacity,
  }
}
