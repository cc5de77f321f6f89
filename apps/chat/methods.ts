import { type MethodFactory, SparseAttentionError } from '@sparse-attention/core'
import { methods as decode } from '@sparse-attention/decode'
import { methods as kernels } from '@sparse-attention/kernels'
import { promptMethods, tokenMethods } from '@sparse-attention/onnxruntime'
import { methods as prefill } from '@sparse-attention/prefill'

const all: readonly MethodFactory[] = [...kernels, ...prefill, ...decode]

/** Those that read a document, and those that write token by token. */
export const readingMethods: readonly MethodFactory[] = promptMethods(all)
export const writingMethods: readonly MethodFactory[] = tokenMethods(all)

/** @throws INVALID_ARGUMENT for an unknown id */
export function findMethod(id: string): MethodFactory {
  const found = all.find(({ definition }) => definition.id === id)
  if (found) return found
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `There is no method '${id}'.`,
    fix: `Use one of ${all.map(({ definition }) => definition.id).join(', ')}.`,
    where: 'method',
  })
}
