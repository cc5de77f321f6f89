import type { Mutation } from '../mutation.js'

const generate = 'packages/onnxruntime/src/generate'
const samplingTest = `${generate}/sampling.test.ts`
const generateTest = `${generate}/generate.test.ts`
const tape = 'packages/onnxruntime/src/captured-step/dispatch-tape'

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
  {
    id: 'tape-takes-copies',
    mistake: 'Work that copies is taped as if it dispatched only.',
    file: `${tape}.ts`,
    find: 'for (const name of otherCalls(encoder, harmless.encoder)) notice(encoder, name, onOther)',
    replace: '',
    caughtBy: { file: `${tape}.gpu.test.ts`, name: 'work that does more than dispatch' },
  },
  {
    id: 'tape-of-other-buffers',
    mistake: 'Tapes that bind other buffers count as the same.',
    file: `${tape}.ts`,
    find: 'pipeline === other.pipeline && group === other.group',
    replace: 'pipeline === other.pipeline',
    caughtBy: { file: `${tape}.gpu.test.ts`, name: 'what was taped is recorded again' },
  },
  {
    id: 'device-left-watched',
    mistake: 'A device goes on noting what is dispatched on it.',
    file: `${tape}.ts`,
    find: 'for (const restore of restores) restore()',
    replace: '',
    caughtBy: { file: `${tape}.gpu.test.ts`, name: 'the device is as it was' },
  },
  {
    id: 'pipeline-kept',
    mistake: 'Dispatches behind the first of a tape run its pipeline.',
    file: `${tape}.ts`,
    find: 'if (pipeline !== bound) pass.setPipeline(pipeline)',
    replace: 'if (!bound) pass.setPipeline(pipeline)',
    caughtBy: { file: `${tape}.gpu.test.ts`, name: 'what was taped is recorded again' },
  },
  {
    id: 'attention-before-its-piece',
    mistake: 'What an attention of a recorded pass reads is not computed before it.',
    file: 'packages/onnxruntime/src/replaced-attention.ts',
    find: 'if (index === 0) before?.(encoder)',
    replace: '',
    caughtBy: {
      file: 'packages/onnxruntime/src/captured-pass/captured-pass.gpu.test.ts',
      name: 'recorded passes give the video of others',
    },
  },
]
