import { relativeError } from '@sparse-attention/core'
import type { Tensor } from 'onnxruntime-web'
import { beforeAll, describe, expect, test } from 'vitest'
import { createHarness, type Harness } from '../test/harness.js'
import { type Export, exportNames, readExport } from '../test/read-export.js'

// What exporters make of transformers' architectures, against what PyTorch computed.
const LAYERS = 2
const names = await exportNames()

let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

// Two layers in float32 whose sums are in another order than PyTorch's: a few hundred roundings of 6e-8. onnxruntime
// itself differs from PyTorch by up to 1.2e-6 on these files.
const TOLERANCE = 1e-5

async function expectOutputs(actual: Readonly<Record<string, Tensor>>, expected: Readonly<Record<string, Tensor>>) {
  expect(Object.keys(actual).sort()).toEqual(Object.keys(expected).sort())
  for (const [name, wanted] of Object.entries(expected)) {
    expect([name, ...actual[name]!.dims]).toEqual([name, ...wanted.dims])
    const error = relativeError(actual[name]!.data as Float32Array, wanted.data as Float32Array)
    expect(error, name).toBeLessThan(TOLERANCE)
  }
}

/** The first sequence of a batch. In these files the second is padded where any is. */
function firstSequence(tensors: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  const first = ({ type, dims, data }: Tensor) => {
    const part = (data as Float32Array).slice(0, data.length / dims[0]!)
    return new harness.ort.Tensor(type as 'float32', part, [1, ...dims.slice(1)])
  }
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, first(tensor)]))
}

const isPadded = ({ feeds }: Export) => (feeds.attention_mask?.data as BigInt64Array | undefined)?.includes(0n) ?? false

describe.each(names)('%s', (name) => {
  test('every attention is replaced, and outputs are those of PyTorch', async () => {
    const exported = await readExport(harness, name)
    await using model = await harness.load(exported.bytes)
    const { attentions } = model.describe()
    expect(attentions.map(({ prefill, node }) => [prefill, node.queryHeads, node.headDim])).toEqual(
      new Array(LAYERS).fill(['dense', 4, 8]),
    )
    for (const { node } of attentions) {
      expect(node.causal).toBe(/^(llama|gpt2)/.test(name))
      expect(node.kvHeads).toBe(name.startsWith('llama') ? 2 : 4)
      expect(node.opType).toBe(name.endsWith('23') ? 'Attention' : 'Softmax')
    }
    const alone = isPadded(exported)
    const { feeds, outputs } = exported
    await expectOutputs(await model.run(alone ? firstSequence(feeds) : feeds), alone ? firstSequence(outputs) : outputs)
  })
})
