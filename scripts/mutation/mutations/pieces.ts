// biome-ignore-all lint/suspicious/noTemplateCurlyInString: what is looked for stands in template literals
import type { Mutation } from '../mutation.js'

const flash = 'kernels/src/flash-attention'
const listed = { file: `${flash}/pieces/pieces.gpu.test.ts`, name: 'the pieces of a plan' }
const attended = { file: `${flash}/pieces/emulated.test.ts`, name: 'gives what the plan asks for' }

export const pieces: readonly Mutation[] = [
  {
    id: 'pieces-of-unseen-blocks',
    mistake: 'Key blocks behind the last visible one count as work.',
    file: `${flash}/pieces/emit.ts`,
    find: 'if (blocks - first < 32u) { bits &= (1u << (blocks - first)) - 1u; }',
    replace: '',
    caughtBy: listed,
  },
  {
    id: 'short-pieces-first',
    mistake: 'Short pieces start first.',
    file: `${flash}/pieces/emit.ts`,
    find: 'BUCKETS - 1u - size * (BUCKETS - 1u) / share',
    replace: 'size * (BUCKETS - 1u) / share',
    caughtBy: listed,
  },
  {
    id: 'last-piece-without-slot',
    mistake: 'The last piece of a row that was cut shares the slot of the one before.',
    file: `${flash}/pieces/emit.ts`,
    find: 'pieces[at] = vec4<u32>(row, first, u.key_blocks, slot + 1u);',
    replace: 'pieces[at] = vec4<u32>(row, first, u.key_blocks, slot);',
    caughtBy: listed,
  },
  {
    id: 'piece-from-the-first-block',
    mistake: 'A piece computes the blocks of its first word that belong to the piece before.',
    file: `${flash}/matrix/walk.ts`,
    find: ' & (0xffffffffu << (piece.y % 32u))',
    replace: '',
    caughtBy: attended,
  },
  {
    id: 'piece-to-the-last-block',
    mistake: 'A piece computes its row to the end.',
    file: `${flash}/matrix/work.ts`,
    find: '`min(${visible}, piece.z * u.plan_block_k)`',
    replace: 'visible',
    caughtBy: attended,
  },
  {
    id: 'pieces-merged-by-count',
    mistake: 'Parts of a row that was cut are merged as if each weighed the same.',
    file: `${flash}/pieces/merge.ts`,
    find: 'exp(max(bitcast<f32>(bits) - largest, -1000.0))',
    replace: '1.0',
    caughtBy: attended,
  },
]
