import type { MethodFactory } from '@sparse-attention/core'
import { methods as decode } from '@sparse-attention/decode'
import { methods as kernels } from '@sparse-attention/kernels'
import { promptMethods, tokenMethods } from '@sparse-attention/onnxruntime'
import { methods as prefill } from '@sparse-attention/prefill'

const all: readonly MethodFactory[] = [...kernels, ...prefill, ...decode]

/** Those that read a document, and those that write token by token. */
export const readingMethods: readonly MethodFactory[] = promptMethods(all)
export const writingMethods: readonly MethodFactory[] = tokenMethods(all)

/** Of an id of those. (The registry of `@sparse-attention/compare` would bring methods of images and videos to the page.) */
export function methodOf(id: string): MethodFactory {
  return all.find(({ definition }) => definition.id === id)!
}
