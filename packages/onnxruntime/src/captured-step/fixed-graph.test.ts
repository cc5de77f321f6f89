import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { int64, node, model as onnx, value } from '../../test/build.js'
import { tinyLlamaModel } from '../../test/tiny-llama.js'
import { findAttentions } from '../find-attentions.js'
import { readGraph } from '../graph.js'
import { parseModel } from '../onnx.js'
import { withCache } from '../with-cache.js'
import { fixedCut, pastLengthInput } from './fixed-graph.js'

function cutAt(bytes: Uint8Array, capacity: number) {
  const file = readGraph(parseModel(bytes))
  const { graph, attentions } = withCache(file, findAttentions(file))
  return fixedCut(graph, attentions, capacity)
}

const bookworm = new URL('../../../models/checkpoints/bookworm-9m/model.onnx', import.meta.url)

test.each<[string, () => Promise<Uint8Array>, number]>([
  ['a Llama whose rotary tables are stored', async () => tinyLlamaModel(), 3],
  ['bookworm-9m, whose rotary tables are computed', async () => new Uint8Array(await readFile(bookworm)), 9],
])('%s: only the token and the length of its past are fed', async (_, read, count) => {
  const fixed = cutAt(await read(), 96)
  if ('reason' in fixed) throw new Error(fixed.reason)
  const { levels } = fixed.cut
  expect(levels).toHaveLength(count)
  const fed = new Set(levels.flatMap(({ piece }) => piece!.inputs).filter((name) => fixed.graph.inputs.has(name)))
  expect([...fed].sort()).toEqual(['input_ids', pastLengthInput])
  for (const { piece } of levels) expect(piece!.nodes.map(({ opType }) => opType)).not.toContain('Range')
})

test('a model that does more with the length of its mask than rotate is left as it is, with the reason', () => {
  const past = ['past_key', 'past_value']
  const bytes = (used: string) =>
    onnx({
      opset: 23,
      input: [
        value('input_ids', 'i64', ['batch', 'length']),
        value('attention_mask', 'i64', ['batch', 'total']),
        ...past.map((name) => value(name, 'f32', ['batch', 2, 'past', 8])),
      ],
      output: [value('logits', 'f32')],
      initializer: [int64('shape', [1, 2, 1, 8]), int64('axis', 1)],
      node: [
        node('Shape', ['attention_mask'], 'mask_shape'),
        node('Gather', ['mask_shape', 'axis'], 'total'),
        node('Add', ['total', 'total'], 'twice'),
        node('Add', ['input_ids', used], 'sum'),
        node('Cast', ['sum'], 'floats', { to: 1n }),
        node('Expand', ['floats', 'shape'], 'q'),
        node('Attention', ['q', 'q', 'q', '', ...past], ['out', 'present_key', 'present_value']),
        node('Neg', ['out'], 'logits'),
      ],
    })
  expect(cutAt(bytes('total'), 8)).toEqual({ reason: "'sum' depends on how many tokens there are" })
  expect(cutAt(bytes('twice'), 8)).toEqual({ reason: "'sum' depends on how many tokens there are" })
  expect(cutAt(bytes('attention_mask'), 8)).toEqual({ reason: "it computes with 'attention_mask'" })
  expect(cutAt(bytes('input_ids'), 8)).not.toHaveProperty('reason')
})
