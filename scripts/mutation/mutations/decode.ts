import type { Mutation } from '../mutation.js'

const decode = 'packages/decode/src'
const cacheTest = `${decode}/kv-cache/paged-kv-cache.gpu.test.ts`
const methodsTest = `${decode}/paged-methods.gpu.test.ts`
const cutTest = { file: cacheTest, name: 'and appended to, it is one that never held the rest' }

export const decoding: readonly Mutation[] = [
  {
    id: 'shared-page-counted-once',
    mistake: 'A page that two sequences share has one owner.',
    file: `${decode}/kv-cache/page-allocator.ts`,
    find: 'this.#owners[page]!++',
    replace: '',
    caughtBy: { file: `${decode}/kv-cache/page-allocator.test.ts`, name: 'a shared page is free when its last owner' },
  },
  {
    id: 'fork-writes-shared-page',
    mistake: 'What a fork appends goes into the page that it shares.',
    file: `${decode}/kv-cache/paged-kv-cache.ts`,
    find: 'this.pool.allocator.owners(shared) === 1) return []',
    replace: 'true) return []',
    caughtBy: { file: cacheTest, name: 'forks share their past, and neither sees what the other appends' },
  },
  {
    id: 'truncated-length-not-written',
    mistake: 'After a truncation the table on the GPU keeps the old length.',
    file: `${decode}/kv-cache/paged-kv-cache.ts`,
    find: 'entry.stale = true',
    replace: 'entry.stale = false',
    caughtBy: cutTest,
  },
  {
    id: 'truncation-keeps-pages',
    mistake: 'A truncation keeps the last of the pages that nothing is left in.',
    file: `${decode}/kv-cache/paged-kv-cache.ts`,
    find: 'entry.pages.splice(Math.ceil(length / this.pageSize))',
    replace: 'entry.pages.splice(Math.ceil(length / this.pageSize) + 1)',
    caughtBy: cutTest,
  },
  {
    id: 'copied-page-not-counted',
    mistake: 'An append does not ask for the page that it copies.',
    file: `${decode}/kv-cache/paged-kv-cache.ts`,
    find: 'if (others > 1) {\n        needed++',
    replace: 'if (others > 1) {',
    caughtBy: { file: cacheTest, name: 'a pool without room refuses, and everything stays as it was' },
  },
  {
    id: 'bounds-of-first-sequence',
    mistake: 'Bounds of pages are brought up to date for the first sequence, whichever got tokens.',
    file: `${decode}/kv-cache/metadata.ts`,
    find: 'firstSequence: tokens.firstSequence',
    replace: 'firstSequence: 0',
    caughtBy: { file: methodsTest, name: 'quest attends in each sequence of a batch' },
  },
  {
    id: 'quest-budget-rounded-down',
    mistake: 'A budget that is no whole number of pages is rounded down.',
    file: `${decode}/selectors/page-selector.ts`,
    find: 'Math.ceil(tokenBudget / pageSize)',
    replace: 'Math.floor(tokenBudget / pageSize)',
    caughtBy: { file: methodsTest, name: 'quest with room for everything is dense' },
  },
  {
    id: 'every-page-but-the-last',
    mistake: 'Every page, without the last one where that is not full.',
    file: `${decode}/selectors/page-selector.ts`,
    find: 'Math.ceil(frame.keyLength / pageSize)',
    replace: 'Math.floor(frame.keyLength / pageSize)',
    caughtBy: { file: methodsTest, name: 'the share p is reached on every head and step' },
  },
  {
    id: 'dense-layers-one-more',
    mistake: 'One layer more stays dense than was asked for.',
    file: `${decode}/selectors/decode-attention.ts`,
    find: 'context.layer < denseLayers',
    replace: 'context.layer <= denseLayers',
    caughtBy: { file: methodsTest, name: 'layers that are to stay dense do, where the layer is known' },
  },
  {
    id: 'mass-upside-down',
    mistake: 'The mass of a selection is that of dense over that of the selection.',
    file: `${decode}/twilight/mass-shortfall.ts`,
    find: 'lse[row]! - denseLse[row]!',
    replace: 'denseLse[row]! - lse[row]!',
    caughtBy: { file: methodsTest, name: 'the share p is reached on every head and step' },
  },
  {
    id: 'scales-not-rounded',
    mistake: 'Codes of a key are chosen for a scale that is not rounded as the one kept.',
    file: 'kernels/src/quantize-keys/emit.ts',
    find: 'return bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);',
    replace: 'return value;',
    caughtBy: {
      file: `${decode}/methods.gpu.test.ts`,
      name: 'q1 k329 heads2/1 batch1 d32 f32 causal BHLD integers default selector=quest',
    },
  },
]
