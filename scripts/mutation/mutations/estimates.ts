import type { Mutation } from '../mutation.js'

const antidiagonal = 'kernels/src/antidiagonal-statistics'
const part = 'kernels/src/shared/softmax-part.ts'
const weights = 'kernels/src/block-weights'
const pool = 'kernels/src/block-pool'
const pooled = 'kernels/src/pooled-scores'

export const estimates: readonly Mutation[] = [
  {
    id: 'antidiagonal-is-diagonal',
    mistake: 'Scores are summed along the diagonal instead of the antidiagonal.',
    file: `${antidiagonal}/emit.ts`,
    find: '* STRIDE + STRIDE - 1u - r',
    replace: '* STRIDE + r',
    caughtBy: { file: `${antidiagonal}/antidiagonal-statistics.gpu.test.ts`, name: 'grouped heads, batch 2, f32' },
  },
  {
    id: 'antidiagonal-scale',
    mistake: 'Antidiagonal sums are not divided by the stride.',
    file: `${antidiagonal}/antidiagonal-statistics.ts`,
    find: 'scale: frame.scale / stride,',
    replace: 'scale: frame.scale,',
    caughtBy: { file: `${antidiagonal}/antidiagonal-statistics.gpu.test.ts`, name: 'grouped heads, batch 2, f32' },
  },
  {
    id: 'softmax-nan',
    mistake: 'NaN scores get weight in a block of nothing else.',
    file: part,
    find: 'select(terms, vec4<f32>(), scores ==',
    replace: 'select(terms, vec4<f32>(1.0), scores ==',
    caughtBy: { file: `${antidiagonal}/antidiagonal-statistics.gpu.test.ts`, name: 'a NaN weighs nothing' },
  },
  {
    id: 'softmax-causal-off-by-one',
    mistake: 'Softmax leaves out the last column that a row sees.',
    file: `${antidiagonal}/emit.ts`,
    find: 'u + 1u, u.columns)',
    replace: 'u, u.columns)',
    caughtBy: { file: `${antidiagonal}/antidiagonal-statistics.gpu.test.ts`, name: 'stride 4, blocks of 128, causal' },
    everyRun: true,
  },
  {
    id: 'weights-of-unseen-blocks',
    mistake: 'Key blocks that a row does not see take part in its softmax.',
    file: `${weights}/emit.ts`,
    find: 'u + 1u, u.key_blocks)',
    replace: 'u + 2u, u.key_blocks)',
    caughtBy: { file: `${weights}/block-weights.gpu.test.ts`, name: 'chunk by chunk' },
  },
  {
    id: 'block-weights-chunk',
    mistake: 'Weights of every chunk of rows are written over the first.',
    file: `${weights}/emit.ts`,
    find: '* u.query_blocks + u.first_row /',
    replace: '* u.query_blocks + 0u /',
    caughtBy: { file: `${weights}/block-weights.gpu.test.ts`, name: 'chunk by chunk' },
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
