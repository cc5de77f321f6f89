import type { Mutation } from '../mutation.js'

const xattention = 'packages/prefill/src/xattention'
const minference = 'packages/prefill/src/minference-block-sparse'

export const methods: readonly Mutation[] = [
  {
    id: 'xattention-dense-too-soon',
    mistake: 'One head that keeps everything makes all heads dense.',
    file: `${xattention}/method.ts`,
    find: 'if (thresholds.min >= 1)',
    replace: 'if (Array.isArray(threshold) && threshold.flat().includes(1))',
    caughtBy: { file: `${xattention}/xattention.gpu.test.ts`, name: 'each head follows its own threshold' },
  },
  {
    id: 'xattention-layer',
    mistake: 'The layer of a call is ignored.',
    file: `${xattention}/method.ts`,
    find: 'thresholds.layer(frame.context.layer)',
    replace: 'thresholds.layer(0)',
    caughtBy: { file: `${xattention}/xattention.gpu.test.ts`, name: 'a layer without thresholds' },
  },
  {
    id: 'xattention-forced-last',
    mistake: 'Forced blocks are written after the selection, over it.',
    file: `${xattention}/method.ts`,
    find: 'forced(plan), select(plan, weights, thresholds.slice, layer)]',
    replace: 'select(plan, weights, thresholds.slice, layer), forced(plan)]',
    caughtBy: { file: `${xattention}/xattention.gpu.test.ts`, name: 'with identical keys every strided column ties' },
  },
  {
    id: 'minference-dense-limit',
    mistake: 'A budget of exactly all blocks is planned instead of dense.',
    file: `${minference}/method.ts`,
    find: 'if (topK >= keyBlocks)',
    replace: 'if (topK > keyBlocks)',
    caughtBy: { file: `${minference}/minference-block-sparse.gpu.test.ts`, name: 'nothing is planned' },
  },
  {
    id: 'minference-unpooled-keys',
    mistake: 'The means of the keys are those of the values.',
    file: `${minference}/method.ts`,
    find: 'pool(frame.k, kMeans)',
    replace: 'pool(frame.v, kMeans)',
    caughtBy: {
      file: `${minference}/minference-block-sparse.gpu.test.ts`,
      name: 'd32 f32 causal BHLD gaussian default blockSize=64 run',
    },
  },
  {
    id: 'option-default-for-zero',
    mistake: 'An option given as 0 becomes its default.',
    file: 'packages/core/src/define-method.ts',
    find: 'value ?? spec.default',
    replace: 'value || spec.default',
    caughtBy: { file: 'packages/core/src/define-method.test.ts', name: 'values that are taken' },
  },
]
