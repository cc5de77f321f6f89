import type { Tensor } from 'onnxruntime-web'
import { int64, model, node, rotaryCaches, tensor, uniform, value } from './build.js'
import type { Harness } from './harness.js'

export const tinyLlama = {
  layers: 2,
  hidden: 32,
  queryHeads: 4,
  kvHeads: 2,
  headDim: 32,
  vocabulary: 24,
  positions: 96,
}

export interface TinyLlamaOptions {
  /** One projection for q, k and v. */
  readonly packed?: boolean
  /** Share of each head that is rotated. */
  readonly rotaryWidth?: number
}

/**
 * A Llama in the shape of onnxruntime-genai's exports: grouped queries, rotary embedding and KV inputs in the attention
 * node, lengths from the attention mask, an int8 embedding that is also the head. Inputs `input_ids`, `attention_mask`,
 * `num_logits_to_keep`, `past_key_values.{i}.key|value`; outputs `logits`, `present.{i}.key|value`.
 */
export function tinyLlamaModel({ packed = false, rotaryWidth = 16 }: TinyLlamaOptions = {}): Uint8Array {
  const { layers, hidden, queryHeads, kvHeads, headDim, vocabulary, positions } = tinyLlama
  const initializer = [
    ...rotaryCaches(positions, rotaryWidth),
    tensor('embed_int8', [vocabulary, hidden], Int8Array.from(uniform(1, vocabulary * hidden, 127))),
    tensor(
      'embed_scale',
      [vocabulary],
      uniform(2, vocabulary, 0.004).map((x) => 0.01 + x),
    ),
    int64('one', [1]),
    int64('axis_1', 1),
    int64('end', [2 ** 40]),
  ]
  const weight = (name: string, rows: number, columns: number, seed: number) => {
    initializer.push(tensor(name, [rows, columns], uniform(seed, rows * columns, 3 / Math.sqrt(rows))))
    return name
  }
  const ones = (name: string) => {
    initializer.push(
      tensor(
        name,
        [hidden],
        uniform(7, hidden, 0.2).map((x) => 1 + x),
      ),
    )
    return name
  }
  const nodes = [
    node('ReduceSum', ['attention_mask', 'one'], 'mask_sum', { keepdims: 0n }),
    node('Sub', ['mask_sum', 'one'], 'mask_last'),
    node('Cast', ['mask_last'], 'seqlens_k', { to: 6n }),
    node('Shape', ['attention_mask'], 'mask_shape'),
    node('Gather', ['mask_shape', 'axis_1'], 'total', { axis: 0n }),
    node('Cast', ['total'], 'total_sequence_length', { to: 6n }),
    node('DequantizeLinear', ['embed_int8', 'embed_scale'], 'embed', { axis: 0n }),
    node('Gather', ['embed', 'input_ids'], 'hidden_0'),
  ]
  for (let i = 0; i < layers; i++) {
    const past = [`past_key_values.${i}.key`, `past_key_values.${i}.value`]
    const rest = ['seqlens_k', 'total_sequence_length', 'cos_cache', 'sin_cache']
    const q = queryHeads * headDim
    const kv = kvHeads * headDim
    nodes.push(
      node('SimplifiedLayerNormalization', [`hidden_${i}`, ones(`norm_${i}`)], `normed_${i}`, { epsilon: 1e-5 }),
    )
    const project = (part: string, width: number, seed: number) => {
      nodes.push(
        node('MatMul', [`normed_${i}`, weight(`${part}_weight_${i}`, hidden, width, seed + 10 * i)], `${part}_${i}`),
      )
      return `${part}_${i}`
    }
    const qkv = packed
      ? [project('qkv', q + 2 * kv, 100), '', '']
      : [project('q', q, 101), project('k', kv, 102), project('v', kv, 103)]
    nodes.push(
      node(
        'ms:GroupQueryAttention',
        [...qkv, ...past, ...rest],
        [`attended_${i}`, `present.${i}.key`, `present.${i}.value`],
        { num_heads: BigInt(queryHeads), kv_num_heads: BigInt(kvHeads), do_rotary: 1n },
      ),
      node('MatMul', [`attended_${i}`, weight(`o_weight_${i}`, q, hidden, 104 + 10 * i)], `o_${i}`),
      node('Add', [`hidden_${i}`, `o_${i}`], `residual_${i}`),
      node('Sigmoid', [`residual_${i}`], `gate_${i}`),
      node('Mul', [`residual_${i}`, `gate_${i}`], `hidden_${i + 1}`),
    )
  }
  nodes.push(
    node('Neg', ['num_logits_to_keep'], 'keep_negative'),
    node('Reshape', ['keep_negative', 'one'], 'keep_start'),
    node('Slice', [`hidden_${layers}`, 'keep_start', 'end', 'one'], 'kept'),
    node('Transpose', ['embed'], 'head', { perm: [1, 0] }),
    node('MatMul', ['kept', 'head'], 'logits'),
  )
  const cache = (name: string, length: string) => value(name, 'f32', ['batch', kvHeads, length, headDim])
  const caches = (prefix: string, length: string) =>
    Array.from({ length: layers }, (_, i) => [`${prefix}.${i}.key`, `${prefix}.${i}.value`])
      .flat()
      .map((name) => cache(name, length))
  return model({
    input: [
      value('input_ids', 'i64', ['batch', 'length']),
      value('attention_mask', 'i64', ['batch', 'total']),
      value('num_logits_to_keep', 'i64', []),
      ...caches('past_key_values', 'past'),
    ],
    output: [value('logits', 'f32', ['batch', 'kept', vocabulary]), ...caches('present', 'total')],
    node: nodes,
    initializer,
  })
}

export const tinyPrompt: readonly number[] = Array.from(
  { length: 37 },
  (_, i) => (i * 7 + (i >> 2)) % tinyLlama.vocabulary,
)

/**
 * @param past outputs of the run before
 * @param keep logits to return, from the end; 0: all
 */
export function tinyLlamaFeeds(
  { tensor }: Pick<Harness, 'tensor'>,
  ids: readonly number[],
  past: Readonly<Record<string, Tensor>> = {},
  keep = 0,
): Record<string, Tensor> {
  const { layers, kvHeads, headDim } = tinyLlama
  const total = (past['present.0.key']?.dims[2] ?? 0) + ids.length
  const feeds: Record<string, Tensor> = {
    input_ids: tensor('int64', [1, ids.length], ids),
    attention_mask: tensor('int64', [1, total], new Array(total).fill(1)),
    num_logits_to_keep: tensor('int64', [], [keep]),
  }
  for (let i = 0; i < layers; i++) {
    for (const part of ['key', 'value']) {
      feeds[`past_key_values.${i}.${part}`] =
        past[`present.${i}.${part}`] ?? tensor('float32', [1, kvHeads, 0, headDim], [])
    }
  }
  return feeds
}
