import { performance } from 'node:perf_hooks'
import type { LanguageModelConfig } from '@sparse-attention/models'
import type { AttentionEvent, AttentionModel, Ort } from '@sparse-attention/onnxruntime'

/**
 * One pass of a language model over a sequence without past.
 *
 * @param logitsToKeep positions whose logits are returned, counted from the end
 * @returns logits f32 [logitsToKeep, vocabulary], and the time until they are on the CPU
 */
export async function prefill(
  model: AttentionModel,
  ort: Ort,
  config: LanguageModelConfig,
  ids: Int32Array,
  logitsToKeep: number,
  options: { signal: AbortSignal; onAttention?: (event: AttentionEvent) => Promise<void> },
): Promise<{ logits: Float32Array; milliseconds: number }> {
  const { Tensor: OrtTensor } = ort
  const length = ids.length
  const empty = () => new OrtTensor('float32', new Float32Array(), [1, config.kvHeads, 0, config.headDim])
  const feeds = {
    input_ids: new OrtTensor('int64', BigInt64Array.from(ids, BigInt), [1, length]),
    attention_mask: new OrtTensor('int64', new BigInt64Array(length).fill(1n), [1, length]),
    num_logits_to_keep: new OrtTensor('int64', BigInt64Array.of(BigInt(logitsToKeep)), []),
    ...Object.fromEntries(
      Array.from({ length: config.layers }, (_, i) => [
        [`past_key_values.${i}.key`, empty()],
        [`past_key_values.${i}.value`, empty()],
      ]).flat(),
    ),
  }
  const start = performance.now()
  const { logits } = await model.run(feeds, { outputs: ['logits'], ...options })
  // Logits are back on the CPU, so everything before them is done.
  return { logits: (await logits!.getData()) as Float32Array, milliseconds: performance.now() - start }
}
