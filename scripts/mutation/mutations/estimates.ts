import type { Mutation } from '../mutation.js'

const antidiagonal = 'kernels/src/antidiagonal-scores'
const softmax = 'kernels/src/row-softmax'
const sums = 'kernels/src/block-sums'
const pool = 'kernels/src/block-pool'
const pooled = 'kernels/src/pooled-scores'

export const estimates: readonly Mutation[] = [
  {
    id: 'antidiagonal-is-diagonal',
    mistake: 'Scores are summed along the diagonal instead of the antidiagonal.',
    file: `${antidiagonal}/emit.ts`,
    find: '* STRIDE + STRIDE - 1u - r',
    replace: '* STRIDE + r',
    caughtBy: { file: `${antidiagonal}/antidiagonal-scores.gpu.test.ts`, name: 'f32 GQA 2 equals' },
  },
  {
    id: 'antidiagonal-scale',
    mistake: 'Antidiagonal sums are not divided by the stride.',
    file: `${antidiagonal}/antidiagonal-scores.ts`,
    find: 'scale: frame.scale / stride,',
    replace: 'scale: frame.scale,',
    caughtBy: { file: `${antidiagonal}/antidiagonal-scores.gpu.test.ts`, name: 'f32 GQA 2 equals' },
  },
  {
    id: 'softmax-nan',
    mistake: 'NaN scores get weight in a row of nothing else.',
    file: `${softmax}/emit.ts`,
    find: 'select(exp(max(x - top, -1000.0)), 0.0, x ==',
    replace: 'select(exp(max(x - top, -1000.0)), 1.0, x ==',
    caughtBy: { file: `${softmax}/row-softmax.gpu.test.ts`, name: 'a NaN weighs nothing' },
  },
  {
    id: 'softmax-causal-off-by-one',
    mistake: 'Softmax leaves out the last column that a row sees.',
    file: `${softmax}/emit.ts`,
    find: 'last_key >= 0) + 1, 0,',
    replace: 'last_key >= 0), 0,',
    caughtBy: { file: `${softmax}/row-softmax.gpu.test.ts`, name: 'equals float64, causal true' },
    everyRun: true,
  },
  {
    id: 'softmax-invisible-cells',
    mistake: 'Columns that a row does not see keep their scores.',
    file: `${softmax}/emit.ts`,
    find: 'select(0.0, scores[start + c] * inverse, c < visible)',
    replace: 'select(scores[start + c], scores[start + c] * inverse, c < visible)',
    caughtBy: { file: `${softmax}/row-softmax.gpu.test.ts`, name: 'equals float64, causal true' },
  },
  {
    id: 'block-sums-chunk',
    mistake: 'Every chunk of block sums is written over the first.',
    file: `${sums}/emit.ts`,
    find: '* u.query_blocks + u.first_block_row + a)',
    replace: '* u.query_blocks + a)',
    caughtBy: { file: `${sums}/block-sums.gpu.test.ts`, name: 'written chunk by chunk' },
  },
  {
    id: 'pool-short-block',
    mistake: 'The last, short block of rows is divided by the size of a whole one.',
    file: `${pool}/emit.ts`,
    find: 'let rows = f32(end_row - first_row);',
    replace: 'let rows = f32(u.block);',
    caughtBy: { file: `${pool}/block-pool.gpu.test.ts`, name: 'the mean of 70 rows' },
    everyRun: true,
  },
  {
    id: 'pooled-heads-modulo',
    mistake: 'Query heads take KV heads in turn, instead of in groups.',
    file: `${pooled}/emit.ts`,
    find: 'workgroup.z % u.query_heads / u.group_size',
    replace: 'workgroup.z % kv_heads',
    caughtBy: { file: `${pooled}/pooled-scores.gpu.test.ts`, name: 'equal the float64 products' },
  },
]
