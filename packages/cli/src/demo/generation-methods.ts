import { registry } from '@sparse-attention/compare'
import { promptMethods, tokenMethods } from '@sparse-attention/onnxruntime'

/** Ids of methods that read a prompt. */
export function prefillMethods(): readonly string[] {
  return promptMethods(registry).map(({ definition }) => definition.id)
}

/** Ids of methods that write token by token. */
export function decodeMethods(): readonly string[] {
  return tokenMethods(registry).map(({ definition }) => definition.id)
}
