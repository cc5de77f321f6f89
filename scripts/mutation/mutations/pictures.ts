import type { Mutation } from '../mutation.js'

const bicubic = 'packages/models/src/vision/bicubic.ts'
const preprocess = 'packages/models/src/vision/preprocess.ts'
const preprocessTest = 'packages/models/src/vision/preprocess.test.ts'
const regions = 'packages/vision/src/region-routes/coverage.ts'
const regionsTest = 'packages/vision/src/region-routes/coverage.test.ts'

export const pictures: readonly Mutation[] = [
  {
    id: 'picture-aliased',
    mistake: 'A picture is made smaller without averaging over what is finer than its pixels.',
    file: bicubic,
    find: 'const stretch = Math.max(1, scale)',
    replace: 'const stretch = 1',
    caughtBy: { file: preprocessTest, name: 'scales 37 × 23 to 12 on the shorter side' },
  },
  {
    id: 'picture-half-a-pixel-off',
    mistake: "A pixel's place is its corner, not its middle.",
    file: bicubic,
    find: '(start + i + 0.5) * scale',
    replace: '(start + i) * scale',
    caughtBy: { file: preprocessTest, name: 'gives what Pillow gives' },
  },
  {
    id: 'picture-cut-at-the-left',
    mistake: 'The left of a wide picture is cut out, not its middle.',
    file: preprocess,
    find: 'bicubicTaps(picture.width, width, Math.floor((width - size) / 2), size)',
    replace: 'bicubicTaps(picture.width, width, 0, size)',
    caughtBy: { file: preprocessTest, name: 'scales 37 × 23 to 12 on the shorter side' },
  },
  {
    id: 'transparent-over-black',
    mistake: 'What is transparent is seen as black.',
    file: preprocess,
    find: 'alpha * data[at + channel]! + (1 - alpha) * 255',
    replace: 'alpha * data[at + channel]!',
    caughtBy: { file: preprocessTest, name: 'puts what is transparent over white' },
  },
  {
    id: 'layer-of-the-stage-before',
    mistake: 'The first attention of a stage is taken for one of the stage before.',
    file: 'packages/models/src/vision/image-classifier.ts',
    find: 'first < stage.blocks',
    replace: 'first <= stage.blocks',
    caughtBy: { file: 'packages/models/src/vision/load.test.ts', name: 'knows the stage of each attention' },
  },
  {
    id: 'shown-ties-to-last',
    mistake: 'Of regions with the same affinity the last one counts as routed to, where the method takes the first.',
    file: regions,
    find: 'rank(c) - rank(b) || b - c',
    replace: 'rank(c) - rank(b) || c - b',
    caughtBy: { file: regionsTest, name: 'equal regions by number' },
  },
  {
    id: 'shares-of-one-head',
    mistake: 'What heads keep of a region is added up, not averaged.',
    file: regions,
    find: 'sizes[to]! * heads)',
    replace: 'sizes[to]!)',
    caughtBy: { file: regionsTest, name: 'counts what a plan keeps, over batch and heads' },
  },
  {
    id: 'one-grid-for-all',
    mistake: 'Where a run says for each attention what its grid is, attentions are told nothing.',
    file: 'packages/onnxruntime/src/model.ts',
    find: "typeof context === 'function' ? context(attention.node) : context",
    replace: "typeof context === 'function' ? undefined : context",
    caughtBy: { file: 'packages/onnxruntime/src/model.test.ts', name: 'each attention is told what a run tells it' },
  },
]
