import type { Mutation } from '../mutation.js'

const sample = 'packages/onnxruntime/src/sample'
const sampleTest = `${sample}/sample.test.ts`
const models = 'packages/models/src/video'

export const videos: readonly Mutation[] = [
  {
    id: 'guidance-turned-round',
    mistake: 'Guidance pushes away from what is asked for.',
    file: `${sample}/sample.ts`,
    find: 'guidance * (conditional[i]! - unconditional[i]!)',
    replace: 'guidance * (unconditional[i]! - conditional[i]!)',
    caughtBy: { file: sampleTest, name: 'integrates the guided velocity' },
  },
  {
    id: 'branches-share-state',
    mistake: 'Both passes of guidance are called conditional, and remember together.',
    file: 'packages/onnxruntime/src/model.ts',
    find: 'context: { step, steps, branch, ...(grid && { grid }) }',
    replace: "context: { step, steps, branch: 'conditional', ...(grid && { grid }) }",
    caughtBy: { file: sampleTest, name: 'remembers from step to step' },
    everyRun: true,
  },
  {
    id: 'next-video-remembers',
    mistake: 'A state that is given again still holds the video before.',
    file: 'packages/onnxruntime/src/model.ts',
    find: 'options.state?.reset()',
    replace: '',
    caughtBy: { file: sampleTest, name: 'remembers from step to step' },
  },
  {
    id: 'video-state-leaks',
    mistake: 'A state that the sampler has made is never freed.',
    file: 'packages/onnxruntime/src/model.ts',
    find: 'if (state !== options.state) state.dispose()',
    replace: '',
    caughtBy: { file: sampleTest, name: 'frees what it made' },
  },
  {
    id: 'shift-turned-round',
    mistake: 'The schedule is shifted towards data.',
    file: `${sample}/schedule.ts`,
    find: '(shift * even) / (1 + (shift - 1) * even)',
    replace: 'even / (shift + (1 - shift) * even)',
    caughtBy: { file: sampleTest, name: 'go from noise to data' },
  },
  {
    id: 'output-not-converted-back',
    mistake: 'What an attention in another dtype gives is not brought back to that of the model.',
    file: 'packages/onnxruntime/src/replaced-attention.ts',
    find: 'checks.push(this.#submit(outward))',
    replace: '',
    caughtBy: {
      file: 'packages/onnxruntime/src/attention-dtype.test.ts',
      name: "attentions compute in another dtype than the file's",
    },
  },
  {
    id: 'ssim-window-shrinks-at-edges',
    mistake: 'Windows at the edges are averaged over the pixels that they have.',
    file: `${models}/quality.ts`,
    find: 'sum += rows[i * width + x]!\n      means[y * width + x] = sum / (2 * reach + 1) ** 2',
    replace:
      'sum += rows[i * width + x]!\n      const count = (n: number, size: number) => Math.min(size - 1, n + reach) - Math.max(0, n - reach) + 1\n      means[y * width + x] = sum / (count(y, height) * count(x, width))',
    caughtBy: { file: `${models}/quality.test.ts`, name: 'is that of the definition' },
  },
  {
    id: 'patches-transposed',
    mistake: 'Rows and columns of a patch are exchanged.',
    file: `${models}/video.ts`,
    find: '((f & 1) * 2 + (y & 1)) * 2 + (x & 1)',
    replace: '((f & 1) * 2 + (x & 1)) * 2 + (y & 1)',
    caughtBy: { file: `${models}/video-model.test.ts`, name: 'lays patches out as frames' },
  },
  {
    id: 'coarse-angles-at-corners',
    mistake: 'Coarse rotary angles are those of the start of a token, not of its middle.',
    file: `${models}/video-model.ts`,
    find: '(i + 0.5) / count',
    replace: 'i / count',
    caughtBy: { file: `${models}/video-model.test.ts`, name: 'have fine angles by index and coarse ones' },
  },
  {
    id: 'too-few-rotary-frequencies',
    mistake: 'A config.json with fewer frequencies than its heads turn is taken.',
    file: `${models}/config.ts`,
    find: 'if (2 * angles !== headDim) refuse(',
    replace: 'if (2 * angles > headDim) refuse(',
    caughtBy: { file: `${models}/video-model.test.ts`, name: 'refuses another rope' },
  },
  {
    id: 'schedule-without-shift',
    mistake: 'A config.json whose schedule would never leave the noise is taken.',
    file: `${models}/config.ts`,
    find: "'shift_base', 0.01, 100",
    replace: "'shift_base', 0, 100",
    caughtBy: { file: `${models}/video-model.test.ts`, name: 'refuses another sampling.shift_base' },
  },
]
