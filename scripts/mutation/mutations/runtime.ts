// biome-ignore-all lint/suspicious/noTemplateCurlyInString: what is looked for stands in template literals
import type { Mutation } from '../mutation.js'

const core = 'packages/core/src'

export const runtime: readonly Mutation[] = [
  {
    id: 'stale-plan',
    mistake: 'A plan that has been overwritten may still be used.',
    file: `${core}/plan-view.ts`,
    find: 'if (this.isCurrent && !this.isCurrent()) {',
    replace: 'if (false) {',
    caughtBy: { file: `${core}/attention.gpu.test.ts`, name: 'a plan is stale after the next call' },
    everyRun: true,
  },
  {
    id: 'scratch-shared',
    mistake: 'Two calls under way get the same scratch buffer.',
    file: `${core}/arena.ts`,
    find: 'return this.#idle.splice(index, 1)[0]!',
    replace: 'return this.#idle[index]!',
    caughtBy: { file: `${core}/arena.test.ts`, name: 'releasing twice puts a buffer back once' },
  },
  {
    id: 'scratch-kept',
    mistake: 'Released scratch is not used again, so memory grows with every call.',
    file: `${core}/arena.ts`,
    find: 'this.#idle.unshift(...taken)',
    replace: '',
    caughtBy: { file: `${core}/arena.test.ts`, name: 'a released buffer serves the next lease' },
  },
  {
    id: 'submits-not-cut',
    mistake: 'Long work goes into one submit, however long.',
    file: `${core}/attention.ts`,
    find: 'operations + dispatch.cost.operations > operationsPerSubmit',
    replace: 'false',
    caughtBy: { file: `${core}/attention.gpu.test.ts`, name: 'cuts work by the budget' },
    everyRun: true,
  },
  {
    id: 'uniforms-collide',
    mistake: 'Uniform blocks of one length are taken for equal.',
    file: `${core}/uniforms.ts`,
    find: 'const key = words.join()',
    replace: 'const key = String(words.length)',
    caughtBy: { file: `${core}/uniforms.test.ts`, name: 'equal words share a block' },
  },
  {
    id: 'output-over-input',
    mistake: 'An output may lie in the buffer of an input.',
    file: `${core}/validate-attention.ts`,
    find: 'tensor && inputs.includes(tensor.buffer)',
    replace: 'false',
    caughtBy: { file: `${core}/validate-attention.test.ts`, name: 'an output may not share a buffer with an input' },
  },
  {
    id: 'half-truncated',
    mistake: 'float32 is truncated to half precision instead of rounded.',
    file: `${core}/half.ts`,
    find: 'magnitude + 0xfff + ((magnitude >>> 13) & 1)',
    replace: 'magnitude',
    caughtBy: { file: `${core}/half.test.ts`, name: 'between all neighbours' },
  },
  {
    id: 'views-read-contiguously',
    mistake: 'Reading back ignores the strides of a view.',
    file: `${core}/runtime.ts`,
    find: 'from += index[axis]! * strides[axis]!',
    replace: 'from += index[axis]! * shape[axis]!',
    caughtBy: { file: `${core}/runtime.gpu.test.ts`, name: 'f32 views are read in the order of their shape' },
  },
  {
    id: 'bind-group-of-another-place',
    mistake: 'A bind group is kept for a buffer, wherever in it the binding begins.',
    file: `${core}/bind-groups.ts`,
    find: '},${offsetBytes},${sizeBytes}`',
    replace: '},${sizeBytes}`',
    caughtBy: { file: `${core}/bind-groups.test.ts`, name: 'another layout, buffer, order, offset or size' },
  },
  {
    id: 'bind-groups-of-dropped-buffers',
    mistake: 'A bind group is kept when one of its buffers has been collected.',
    file: `${core}/bind-groups.ts`,
    find: 'this.#collected.register(buffer, number)',
    replace: '',
    caughtBy: { file: `${core}/bind-groups.test.ts`, name: 'lets go of a group when nobody else holds' },
  },
]
