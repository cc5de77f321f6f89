import { relativeError } from '@sparse-attention/core'
import { expect, test } from 'vitest'
import { createHarness } from '../../packages/onnxruntime/test/harness.js'
import { readExport } from '../../packages/onnxruntime/test/read-export.js'
import { loadSparse } from './onnx.js'

test('the example of a model: every attention replaced, the numbers those of PyTorch', async () => {
  const harness = await createHarness()
  const { bytes, feeds, outputs } = await readExport(harness, 'llama-eager-dynamo-18')
  await using model = await loadSparse(harness.runtime, harness.ort, bytes)
  expect(model.describe().attentions.map(({ prefill, decode }) => [prefill, decode])).toEqual([
    ['xattention', 'dense'],
    ['xattention', 'dense'],
  ])
  const { logits } = await model.run(feeds)
  // Shorter than a block, so nothing is skipped. Sums in another order than PyTorch's.
  expect(relativeError(logits!.data as Float32Array, outputs.logits!.data as Float32Array)).toBeLessThan(1e-5)
})
