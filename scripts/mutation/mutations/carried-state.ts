import type { Mutation } from '../mutation.js'

const core = 'packages/core/src'
const lite = 'packages/diffusion/src/lite-attention'
const cache = 'packages/diffusion/src/step-cache'
const flash = 'kernels/src/flash-attention'
const stateTest = `${core}/state.gpu.test.ts`
const liteTest = `${lite}/lite-attention.gpu.test.ts`

/** What is carried from call to call, and by whom. */
export const carriedState: readonly Mutation[] = [
  {
    id: 'state-one-branch',
    mistake: 'Conditional and unconditional calls share what is carried.',
    file: `${core}/state.ts`,
    find: 'JSON.stringify([layer, branch, sequence])',
    replace: 'JSON.stringify([layer, sequence])',
    caughtBy: { file: stateTest, name: 'keeps layers, branches and sequences apart' },
  },
  {
    id: 'state-any-shape',
    mistake: 'An entry goes on after the length of the sequence has changed.',
    file: `${core}/state.ts`,
    find: 'const shape = [batch, queryHeads, kvHeads, queryLength, keyLength, headDim, ...grid].join()',
    replace: 'const shape = [batch, queryHeads, kvHeads, keyLength, headDim, ...grid].join()',
    caughtBy: { file: stateTest, name: 'begins an entry anew when its shape or grid changes' },
  },
  {
    id: 'state-leaks',
    mistake: 'Memory of entries that are gone is never used again.',
    file: `${core}/state.ts`,
    find: 'if (buffer.size >= size &&',
    replace: 'if (buffer.size > 2 ** 40 &&',
    caughtBy: { file: stateTest, name: 'begins an entry anew when its shape or grid changes' },
  },
  {
    id: 'state-after-abort',
    mistake: 'A call that was aborted half way leaves a state that looks whole.',
    file: `${core}/attention.ts`,
    find: 'if (recorded) (tensors.state ?? this.#ownState)?.reset()',
    replace: 'if (!recorded) (tensors.state ?? this.#ownState)?.reset()',
    caughtBy: { file: stateTest, name: 'a run that is aborted between submits leaves it as new' },
  },
  {
    id: 'state-of-others',
    mistake: 'The state of another attention is taken.',
    file: `${core}/attention.ts`,
    find: 'if (!(state instanceof OwnedState) || state.owner !== this)',
    replace: 'if (!(state instanceof OwnedState))',
    caughtBy: { file: stateTest, name: 'of another attention' },
  },
  {
    id: 'votes-of-padding',
    mistake: 'Rows behind the last query vote, for blocks that no real row needs.',
    file: `${flash}/portable.ts`,
    find: "voting(options, 'live && slice_index == 0u')",
    replace: "voting(options, 'slice_index == 0u')",
    caughtBy: { file: `${flash}/votes.gpu.test.ts`, name: 'query blocks of 64 vote as float64 does' },
  },
  {
    id: 'votes-natural-threshold',
    mistake: 'The threshold is taken in natural logarithm.',
    file: `${flash}/record.ts`,
    find: 'vote_threshold: votes?.threshold ?? 0,',
    replace: 'vote_threshold: (votes?.threshold ?? 0) * Math.LOG2E,',
    caughtBy: { file: `${flash}/votes.gpu.test.ts`, name: 'query blocks of 64 vote as float64 does' },
  },
  {
    id: 'votes-last-word',
    mistake: 'Votes of the last word of a row of blocks are never handed in.',
    file: `${flash}/votes.ts`,
    find: 'end: `if (u.vote != 0u) {',
    replace: 'end: `if (u.vote > 1u) {',
    caughtBy: { file: `${flash}/votes.gpu.test.ts`, name: 'query blocks of 64 vote as float64 does' },
  },
  {
    id: 'votes-matrix-reference',
    mistake: 'On matrices scores are compared with the reference of the softmax, which lags behind the maximum.',
    file: `${flash}/matrix/emit.ts`,
    find: '(top - row_top) * scale > u.vote_threshold',
    replace: '(top - reference) * scale > u.vote_threshold',
    caughtBy: { file: `${flash}/votes-emulated.test.ts`, name: 'pieces of rows vote as float64 does' },
  },
  {
    id: 'carried-not-emptied',
    mistake: 'What was carried stays beside the votes of the next call, so that the plan never shrinks again.',
    file: 'kernels/src/carried-blocks/emit.ts',
    find: 'carried[at] = 0u;',
    replace: 'carried[at] = plan[at];',
    caughtBy: { file: liteTest, name: 'what a step keeps is what float64 keeps' },
  },
  {
    id: 'lite-text-rows',
    mistake: 'Queries behind the grid skip as those of the video do.',
    file: `${lite}/method.ts`,
    find: 'lastRows: queryLength === keyLength ? text : 0,',
    replace: 'lastRows: 0,',
    caughtBy: { file: liteTest, name: 'blocks of must-do keys, text behind the grid and its rows' },
  },
  {
    id: 'lite-votes-stay',
    mistake: 'A plan that was run and is given again votes again, into what is carried.',
    file: `${lite}/method.ts`,
    find: 'voting.delete(plan)',
    replace: '',
    caughtBy: { file: liteTest, name: 'dense steps and layers, and calls over a given plan' },
  },
  {
    id: 'cache-first-difference',
    mistake: 'Changes are measured from the last evaluation instead of being added up from step to step.',
    file: `${cache}/step-cache.ts`,
    find: 'Object.assign(before, { step, signal: Float64Array.from(signal), accumulated })',
    replace: 'Object.assign(before, { step })',
    caughtBy: { file: `${cache}/step-cache.test.ts`, name: 'adds up relative changes from step to step' },
  },
  {
    id: 'cache-polynomial-order',
    mistake: 'Coefficients are read lowest power first.',
    file: `${cache}/step-cache.ts`,
    find: 'this.options.coefficients.reduce((sum, coefficient) => sum * change + coefficient, 0)',
    replace: 'this.options.coefficients.reduceRight((sum, coefficient) => sum * change + coefficient, 0)',
    caughtBy: { file: `${cache}/step-cache.test.ts`, name: 'rescales changes by a polynomial' },
  },
  {
    id: 'cache-shared-array',
    mistake: 'The array that is kept is handed out, and written to by the sampler.',
    file: `${cache}/step-cache.ts`,
    find: "if (this.options.reuse === 'output') return kept.slice() as Output",
    replace: "if (this.options.reuse === 'output') return kept",
    caughtBy: { file: `${cache}/step-cache.test.ts`, name: 'hands out arrays of its own' },
  },
]
