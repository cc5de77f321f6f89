import { relativeError } from '@sparse-attention/core'
import { beforeAll, expect, test } from 'vitest'
import { uniform } from '../test/build.js'
import { createHarness, type Harness, TOLERANCE } from '../test/harness.js'
import { tinyFlowModel } from '../test/tiny-flow.js'

const bytes = tinyFlowModel()
let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

test("attentions compute in another dtype than the file's, and everything else as before", async () => {
  const feeds = {
    latents: harness.tensor('float32', [2, 7, 4], uniform(1, 56)),
    timestep: harness.tensor('float32', [2], [0.3, 0.8]),
    code: harness.tensor('int64', [2], [0, 2]),
  }
  const expected = (await harness.reference(bytes, feeds)).velocity!.data as Float32Array
  const error = async (attentionDtype: 'f16' | 'f32') => {
    await using model = await harness.load(bytes, { attentionDtype })
    const dtypes: string[] = []
    const { velocity } = await model.run(feeds, { onAttention: ({ q, out }) => void dtypes.push(q.dtype, out.dtype) })
    expect(velocity!.type).toBe('float32')
    expect(dtypes).toEqual(new Array(4).fill(attentionDtype))
    return relativeError(velocity!.data as Float32Array, expected)
  }
  expect(await error('f32')).toBeLessThan(TOLERANCE)
  const halved = await error('f16')
  // Halves have 11 bits: each of two layers rounds q, k, v and its output by up to 2^-11, of numbers that add up.
  expect(halved).toBeLessThan(4 * 2 ** -11)
  expect(halved).toBeGreaterThan(1e-6)
})

test.each([
  [{ attentionDtype: 'f64' }, /attentionDtype is 'f64'/],
  [{ attentionDtype: 'f16', cache: true }, /for a model with a cache/],
])('%j is refused', async (options, message) => {
  const loading = harness.load(bytes, options as { attentionDtype: 'f16' })
  await expect(loading).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    where: 'attentionDtype',
    message: expect.stringMatching(message),
  })
})
