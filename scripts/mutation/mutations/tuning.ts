import type { Mutation } from '../mutation.js'

const kernels = 'kernels/src/tuning'
const core = 'packages/core/src'

export const tuning: readonly Mutation[] = [
  {
    id: 'tuned-of-changed-kernel',
    mistake: 'A variant that was measured before its kernel changed still runs.',
    file: `${kernels}/choose-variant.ts`,
    find: 'entry && tuned && entry.sources === sourcesHash(runtime, call, tuned)',
    replace: 'entry && tuned',
    caughtBy: { file: `${kernels}/choose-variant.test.ts`, name: 'whose kernels have changed since' },
  },
  {
    id: 'tuned-by-luck',
    mistake: 'A variant wins that is slower half the time.',
    file: `${kernels}/halving.ts`,
    find: 'rounds.filter((ratio) => ratio < 1).length >= SHARE_TO_WIN * rounds.length &&',
    replace: '',
    caughtBy: { file: `${kernels}/halving.test.ts`, name: 'slower half the time has not won' },
  },
  {
    id: 'tuning-unchecked',
    mistake: 'Any number may stand in a tuning table, however large a dispatch it makes.',
    file: `${core}/tuning.ts`,
    find: "typeof number === 'number' && number > 0 && number <= most",
    replace: "typeof number === 'number'",
    caughtBy: { file: `${core}/tuning.test.ts`, name: 'operationsPerSecond is refused' },
  },
  {
    id: 'last-dispatch-small',
    mistake: 'Dispatches are filled one after the other, which leaves a few rows to the last.',
    file: 'kernels/src/flash-attention/record.ts',
    find: 'const ends = cut(operations(frame, rows, 0, rowBlocks) / fewest)',
    replace: 'const ends = cut(Number.POSITIVE_INFINITY)',
    caughtBy: { file: 'kernels/src/flash-attention/record.test.ts', name: 'share the work evenly' },
  },
]
