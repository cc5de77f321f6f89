import { relativeError } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { xattention } from '@sparse-attention/prefill'
import type { InferenceSession, Tensor } from 'onnxruntime-web'
import { beforeAll, describe, expect, test } from 'vitest'
import { createHarness, type Harness } from '../test/harness.js'
import { type Export, exportNames, readExport } from '../test/read-export.js'
import { AttentionModel, type Ort } from './index.js'

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

describe('an attention mask', () => {
  test.each(['bert-masked-eager-script-17', 'bert-masked-sdpa-dynamo-23'])('of a padded batch, in %s', async (name) => {
    const { bytes, feeds, outputs } = await readExport(harness, name)
    await using model = await harness.load(bytes)
    await expect(model.run(feeds)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/neither causal nor shows everything: .* hides key 12 from every query/),
      fix: expect.stringContaining('one by one'),
    })
    // As the error says: kept, the batch may be padded.
    await using kept = await harness.load(bytes, { attention: () => 'keep' })
    await expectOutputs(await kept.run(feeds), outputs)
  })

  test('of one sequence and of ones, in another length than that of the export', async () => {
    const { bytes } = await readExport(harness, 'llama-masked-sdpa-script-17')
    await using model = await harness.load(bytes)
    for (const length of [1, 40]) {
      const ids = Array.from({ length }, (_, i) => (i * 31 + 7) % 48)
      const feeds = (mask: readonly number[]) => ({
        input_ids: harness.tensor('int64', [1, length], ids),
        attention_mask: harness.tensor('int64', [1, length], mask),
      })
      const ones = feeds(new Array(length).fill(1))
      await expectOutputs(await model.run(ones), await harness.reference(bytes, ones))
      if (length === 1) continue
      const left = feeds([0, ...new Array(length - 1).fill(1)])
      await expect(model.run(left)).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        where: expect.stringContaining('layers.0'),
      })
    }
  })
})

test('a sparse method that keeps everything gives what PyTorch gives', async () => {
  const { bytes, feeds, outputs } = await readExport(harness, 'llama-eager-dynamo-18')
  await using model = await harness.load(bytes, { attention: () => xattention(xattention.definition.neutral) })
  expect(model.describe().attentions.map(({ prefill }) => prefill)).toEqual(new Array(LAYERS).fill('xattention'))
  await expectOutputs(await model.run(feeds), outputs)
})

test.each([
  'llama-masked-sdpa-dynamo-18',
  'llama-masked-sdpa-script-17',
  'gpt2-sdpa-dynamo-18',
  'bert-masked-sdpa-dynamo-23',
])('checking the mask of %s takes a few numbers a token, not one a pair', async (name) => {
  const { bytes } = await readExport(harness, name)
  const length = 60
  let numbers = 0
  const { ort, runtime } = harness
  // The first session is the host's.
  let sessions = 0
  const create = async (...args: Parameters<typeof ort.InferenceSession.create>): Promise<InferenceSession> => {
    const session = await ort.InferenceSession.create(...args)
    if (sessions++ > 0) return session
    const run = session.run.bind(session) as (...args: unknown[]) => Promise<Record<string, Tensor>>
    session.run = async (...args: unknown[]) => {
      const outputs = await run(...args)
      for (const { size } of Object.values(outputs)) numbers += size
      return outputs
    }
    return session
  }
  const counting = { InferenceSession: { create }, Tensor: ort.Tensor } as unknown as Ort
  await using model = await AttentionModel.load(runtime, counting, bytes, {
    provider: 'wasm',
    attention: () => dense(),
  })
  const int64 = (value: (i: number) => number) =>
    harness.tensor(
      'int64',
      [1, length],
      Array.from({ length }, (_, i) => value(i)),
    )
  const all: Record<string, Tensor> = { input_ids: int64((i) => (i * 7) % 48), attention_mask: int64(() => 1) }
  const feeds = Object.fromEntries(model.inputNames.map((input) => [input, all[input]!]))
  await model.run(feeds)
  expect(numbers).toBeGreaterThan(length)
  expect(numbers).toBeLessThan(12 * length)
})
