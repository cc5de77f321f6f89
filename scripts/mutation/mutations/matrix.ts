// biome-ignore-all lint/suspicious/noTemplateCurlyInString: what is looked for stands in template literals
import type { Mutation } from '../mutation.js'

const matrix = 'kernels/src/flash-attention/matrix'
const test = `${matrix}/emulated.test.ts`

/** Cases of the emulated kernel, by part of their names. */
const blocks = 'template 16×16×16, block plan, 64 rows by 32, causal, head_dim 32'
const twoLanes = 'template 16×16×16, stripe plan, 64 rows by 16, full'
const clusters = 'template 16×16×16, variable-block plan'
const twoTiles = 'with two tiles of values'
const inPlace = "with values in the keys' place"
const narrow = 'template 16×8×16'
const shallow = 'template 16×8×8'
const argument = 'argument 16×16×16'

export const matrixKernel: readonly Mutation[] = [
  {
    id: 'matrix-weights-overflow',
    mistake: 'A row keeps its reference until its weights no longer fit f16.',
    file: `${matrix}/softmax.ts`,
    find: 'const LARGEST_EXPONENT = 15',
    replace: 'const LARGEST_EXPONENT = 40',
    caughtBy: { file: test, name: `${blocks} huge logits` },
  },
  {
    id: 'matrix-sum-not-rescaled',
    mistake: 'Where a row outgrows its reference, the sum of its weights stays as it was.',
    file: `${matrix}/softmax.ts`,
    find: 'row_sum *= rescale;',
    replace: '',
    caughtBy: { file: test, name: `${blocks} huge logits` },
  },
  {
    id: 'matrix-output-not-rescaled',
    mistake: 'Where a row outgrows its reference, its output stays as it was.',
    file: `${matrix}/products.ts`,
    find: '`${floats(i)} * rescale`',
    replace: '`${floats(i)}`',
    caughtBy: { file: test, name: `${blocks} huge logits` },
  },
  {
    id: 'matrix-weights-not-rewritten',
    mistake: 'Where a row outgrows its reference, weights of the present tile are those of the old one.',
    file: `${matrix}/softmax.ts`,
    find: 'weighAgain: writeWeights,',
    replace: "weighAgain: '',",
    caughtBy: { file: test, name: `${blocks} huge logits` },
  },
  {
    id: 'matrix-key-behind-the-last',
    mistake: 'A row sees one key more than it should.',
    file: `${matrix}/softmax.ts`,
    find: '< vec4<u32>(seen)',
    replace: '<= vec4<u32>(seen)',
    caughtBy: { file: test, name: `${blocks} over every key` },
  },
  {
    id: 'matrix-half-a-row',
    mistake: 'Two lanes share a row, and each counts its own weights only.',
    file: `${matrix}/softmax.ts`,
    find: "lanesPerRow === 2 ? '\\nsum += subgroupShuffleXor(sum, 1u);' : ''",
    replace: "''",
    caughtBy: { file: test, name: `${twoLanes}, head_dim 64 over every key` },
  },
  {
    id: 'matrix-negative-scale',
    mistake: 'A negative scale is taken for a positive one.',
    file: `${matrix}/emit.ts`,
    find: 'select(0u, 0x80008000u, u.scale < 0.0)',
    replace: '0u',
    caughtBy: { file: test, name: `${blocks} queries before the first key` },
  },
  {
    id: 'matrix-nan-times-zero',
    mistake: 'NaN in a value stays where rows that do not see it multiply it by 0.',
    file: `${matrix}/staging.ts`,
    find: 'v_unit_${i} &= ~beyond_${i};',
    replace: '',
    caughtBy: { file: test, name: `${blocks} NaN and infinity` },
  },
  {
    id: 'matrix-nan-lost',
    mistake: 'NaN in a value is left out of the rows that see it, too.',
    file: `${matrix}/softmax.ts`,
    find: '{ row_tainted = true; }',
    replace: '{ }',
    caughtBy: { file: test, name: `${blocks} NaN and infinity` },
  },
  {
    id: 'matrix-lse-base-two',
    mistake: 'The LSE is in base 2.',
    file: `${matrix}/emit.ts`,
    find: ' * 0.6931471805599453',
    replace: '',
    caughtBy: { file: test, name: `${blocks} over every key` },
  },
  {
    id: 'matrix-stripe-limit',
    mistake: 'Of the keys of a stripe a row sees the one behind its last.',
    file: `${matrix}/walk.ts`,
    find: 'tile_keys[now.place + i] < row_end',
    replace: 'tile_keys[now.place + i] <= row_end',
    caughtBy: { file: test, name: `${twoTiles}, causal, head_dim 16 over every key` },
  },
  {
    id: 'matrix-block-of-any-size',
    mistake: 'The last tile of a block of any size is seen whole.',
    file: `${matrix}/walk.ts`,
    find: "seenEnd: 'min(row_end, now.span_end)'",
    replace: "seenEnd: 'row_end'",
    caughtBy: { file: test, name: `${clusters}, 64 rows by 32, causal, head_dim 16 over a plan` },
  },
  {
    id: 'matrix-values-too-early',
    mistake: 'The next tile of values is put over the present one.',
    file: `${matrix}/geometry.ts`,
    find: "copyOfLane: '1u - stage'",
    replace: "copyOfLane: 'stage'",
    caughtBy: { file: test, name: `${twoTiles}, causal, head_dim 16 over every key` },
  },
  {
    id: 'matrix-keys-of-first-half',
    mistake: 'Matrices of eight columns take the first keys of a tile twice.',
    file: `${matrix}/products.ts`,
    find: 'n * N * tilePitch + (k * K) / 8',
    replace: '(k * K) / 8',
    caughtBy: { file: test, name: `${narrow}, block plan, 64 rows by 16, full, head_dim 48 over every key` },
  },
  {
    id: 'matrix-values-of-first-half',
    mistake: 'Matrices eight deep take the first values of a tile twice.',
    file: `${matrix}/products.ts`,
    find: 'k * K * tilePitch + (n * N) / 8',
    replace: '(n * N) / 8',
    caughtBy: { file: test, name: `${shallow}, stripe plan, 64 rows by 32, causal, head_dim 16 over every key` },
  },
  {
    id: 'matrix-argument-units',
    mistake: 'In the earlier syntax, offsets and pitches count units of 16 bytes instead of components.',
    file: 'kernels/src/shared/subgroup-matrix.ts',
    find: '`${perUnit[component] * units}u`',
    replace: '`${units}u`',
    caughtBy: { file: test, name: `${argument}, stripe plan, 64 rows by 32, causal, head_dim 16 over every key` },
  },
  {
    id: 'matrix-stripe-of-one-key',
    mistake: 'Every key of a stripe is its first one.',
    file: `${matrix}/walk.ts`,
    find: 'return stripe + (position & (walk.width - 1u));',
    replace: 'return stripe;',
    caughtBy: { file: test, name: `${inPlace}, causal, head_dim 16 over a plan` },
  },
  {
    id: 'single-keys-of-one-key',
    mistake: 'Where the keys of stripes are listed one by one, each is the first of its stripe.',
    file: 'kernels/src/flash-attention/single-keys.ts',
    find: 'indices[read_at + i / each] + i % each',
    replace: 'indices[read_at + i / each]',
    caughtBy: { file: test, name: `${argument}, stripe plan, 64 rows by 32, causal, head_dim 16 over a plan` },
  },
  {
    id: 'matrix-keys-for-values',
    mistake: 'Where values take the place of keys, keys stay.',
    file: `${matrix}/emit.ts`,
    find: 'linesOf([0, 2], tiles.putValues)',
    replace: 'linesOf([2], tiles.putValues)',
    caughtBy: { file: test, name: `${inPlace}, causal, head_dim 16 over every key` },
  },
  {
    id: 'matrix-nan-lost-in-place',
    mistake: 'Where values take the place of keys, NaN is left out of the rows that see it, too.',
    file: `${matrix}/emit.ts`,
    find: 'linesOf([0], weights.taint)',
    replace: "''",
    caughtBy: { file: test, name: `${inPlace}, causal, head_dim 16 NaN and infinity` },
  },
]
