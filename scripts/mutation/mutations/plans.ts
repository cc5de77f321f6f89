import type { Mutation } from '../mutation.js'

const kernels = 'kernels/src'

export const plans: readonly Mutation[] = [
  {
    id: 'union-is-intersection',
    mistake: 'The union of two plans keeps what both have.',
    file: `${kernels}/union-plans/emit.ts`,
    find: 'plan[word] |= other[word];',
    replace: 'plan[word] &= other[word];',
    caughtBy: { file: `${kernels}/union-plans/union-plans.gpu.test.ts`, name: 'the union of two plans' },
  },
  {
    id: 'list-not-ascending',
    mistake: 'In a list made from a bitmap, later words come first.',
    file: `${kernels}/bitmap-to-list/emit.ts`,
    find: 'if (i < local) { place += bits_of[i]; }',
    replace: 'if (i > local) { place += bits_of[i]; }',
    caughtBy: { file: `${kernels}/bitmap-to-list/bitmap-to-list.gpu.test.ts`, name: '' },
  },
  {
    id: 'list-end-lost',
    mistake: 'A bitmap made from a list lacks the last entry of each word.',
    file: `${kernels}/list-to-bitmap/emit.ts`,
    find: 'indices[list + i] < end_bit; i++',
    replace: 'indices[list + i] < end_bit - 1; i++',
    caughtBy: { file: `${kernels}/list-to-bitmap/list-to-bitmap.gpu.test.ts`, name: 'bits of lists' },
  },
  {
    id: 'sort-not-stable',
    mistake: 'Rows of one bin come in falling order.',
    file: `${kernels}/counting-sort/emit.ts`,
    find: 'before += select(0u, same, j < local);',
    replace: 'before += select(0u, same, j > local);',
    caughtBy: { file: `${kernels}/counting-sort/counting-sort.gpu.test.ts`, name: 'all rows in one bin' },
  },
  {
    id: 'mask-without-causality',
    mistake: 'What a plan computes is counted as if queries were the first positions.',
    file: 'packages/core/src/plan.ts',
    find: 'row + plan.keyLength - plan.queryLength',
    replace: 'row',
    caughtBy: { file: 'packages/core/src/plan.test.ts', name: 'causal is bottom-right' },
  },
]
