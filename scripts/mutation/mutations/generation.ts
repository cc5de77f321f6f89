import type { Mutation } from '../mutation.js'

const generate = 'packages/onnxruntime/src/generate'
const samplingTest = `${generate}/sampling.test.ts`
const generateTest = `${generate}/generate.test.ts`

export const generation: readonly Mutation[] = [
  {
    id: 'top-k-cuts-ties',
    mistake: 'Tokens as likely as the last of the top k are left out.',
    file: `${generate}/sampling.ts`,
    find: 'kept = kept.filter((id) => weights[id]! >= last)',
    replace: 'kept = kept.filter((id) => weights[id]! > last)',
    caughtBy: { file: samplingTest, name: 'keeps equals of the last of the top k' },
  },
  {
    id: 'penalty-of-negative-logits',
    mistake: 'A repeated token with a negative logit becomes more likely.',
    file: `${generate}/sampling.ts`,
    find: 'scores[id]! > 0 ? 1 / repetitionPenalty : repetitionPenalty',
    replace: '1 / repetitionPenalty',
    caughtBy: { file: samplingTest, name: 'makes repeated tokens less likely' },
  },
  {
    id: 'last-token-forgotten',
    mistake: 'The last token of a turn is not read with the next one.',
    file: `${generate}/generation.ts`,
    find: 'let unread = [...cache.unread, ...prompt]',
    replace: 'let unread = [...prompt]',
    caughtBy: { file: generateTest, name: 'goes on from its cache' },
  },
  {
    id: 'length-beyond-tables',
    mistake: 'What depends on the number of tokens is taken for a rotary table.',
    file: 'packages/onnxruntime/src/captured-step/fixed-graph.ts',
    find: 'for (const value of node.output) tainted.add(value)',
    replace: '',
    caughtBy: {
      file: 'packages/onnxruntime/src/captured-step/fixed-graph.test.ts',
      name: 'a model that does more with the length',
    },
  },
]
