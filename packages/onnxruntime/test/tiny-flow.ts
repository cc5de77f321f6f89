import type { Tensor } from 'onnxruntime-web'
import { model, node, tensor, uniform, value } from './build.js'
import type { Harness } from './harness.js'

export const tinyFlow = { layers: 2, width: 16, heads: 2, channels: 4, classes: 3 }

/**
 * A transformer that predicts velocities: inputs `latents` f32 [batch, tokens, 4], `timestep` f32 [batch], `code` i64 [batch];
 * output `velocity` as the latents. Two layers of attention without a mask; what is asked for is added behind each, so that a
 * reshaped value goes from piece to piece; the output is another value under its name, as exporters write it.
 */
export function tinyFlowModel(): Uint8Array {
  const { layers, width, heads, channels, classes } = tinyFlow
  const weights = (name: string, rows: number, columns: number, seed: number) =>
    tensor(name, [rows, columns], uniform(seed, rows * columns, 2 / Math.sqrt(rows)))
  const initializer = [
    weights('embed', channels, width, 1),
    weights('codes', classes, width, 2),
    weights('time', 1, width, 3),
    weights('head', width, channels, 4),
    tensor('axes', [2], BigInt64Array.of(1n, 2n)),
    tensor('middle', [1], BigInt64Array.of(1n)),
  ]
  const nodes = [
    node('MatMul', ['latents', 'embed'], 'embedded'),
    node('Unsqueeze', ['timestep', 'axes'], 'times'),
    node('MatMul', ['times', 'time'], 'time_embedding'),
    node('Gather', ['codes', 'code'], 'rows'),
    node('Unsqueeze', ['rows', 'middle'], 'code_embedding'),
    node('Add', ['time_embedding', 'code_embedding'], 'asked'),
    node('Add', ['embedded', 'asked'], 'hidden_0'),
  ]
  for (let i = 0; i < layers; i++) {
    for (const [j, part] of ['q', 'k', 'v'].entries()) {
      initializer.push(weights(`${part}_weight_${i}`, width, width, 10 * i + j + 5))
      nodes.push(node('MatMul', [`hidden_${i}`, `${part}_weight_${i}`], `${part}_${i}`))
    }
    nodes.push(
      node('ms:MultiHeadAttention', [`q_${i}`, `k_${i}`, `v_${i}`], `attended_${i}`, { num_heads: BigInt(heads) }),
      node('Add', [`attended_${i}`, 'code_embedding'], `turned_${i}`),
      node('Add', [`hidden_${i}`, `turned_${i}`], `hidden_${i + 1}`),
    )
  }
  nodes.push(node('MatMul', [`hidden_${layers}`, 'head'], 'projected'), node('Identity', ['projected'], 'velocity'))
  return model({
    input: [
      value('latents', 'f32', ['batch', 'tokens', channels]),
      value('timestep', 'f32', ['batch']),
      value('code', 'i64', ['batch']),
    ],
    output: [value('velocity', 'f32', ['batch', 'tokens', channels])],
    node: nodes,
    initializer,
  })
}

/** What a video is asked to show. */
export function tinyCode(harness: Harness, code: number): Record<string, Tensor> {
  return { code: harness.tensor('int64', [1], [code]) }
}
