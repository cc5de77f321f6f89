import type { Runtime } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { AttentionModel, type Ort } from '@sparse-attention/onnxruntime'
import { xattention } from '@sparse-attention/prefill'

/** A model as onnxruntime-web would load it, its attention replaced: long prompts sparse, single tokens dense. */
export async function loadSparse(runtime: Runtime, ort: Ort, bytes: Uint8Array): Promise<AttentionModel> {
  const model = await AttentionModel.load(runtime, ort, bytes, {
    attention: ({ causal }) => (causal ? { prefill: xattention({ threshold: 0.9 }), decode: dense() } : 'keep'),
  })
  for (const { prefill, decode } of model.describe().attentions) console.log({ prefill, decode })
  return model
}
