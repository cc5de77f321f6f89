import { SparseAttentionError } from '@sparse-attention/core'

/** The file is malformed: no runtime could make sense of it. */
export function invalidFile(message: string, where: string, cause?: unknown): SparseAttentionError {
  return new SparseAttentionError('INVALID_FILE', {
    message,
    fix: 'Export or download the model again.',
    where,
    ...(cause === undefined ? {} : { cause }),
  })
}

/** A graph that is valid, but cannot be cut at this node. */
export function cannotCut(node: string, reason: string): SparseAttentionError {
  return new SparseAttentionError('UNSUPPORTED', {
    message: `Cannot replace the attention of node ${node}: ${reason}.`,
    fix: "Return 'keep' for this node, so that onnxruntime-web computes it.",
    where: node,
  })
}

/** Text of a thrown value, for use inside a sentence. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.trim().replace(/\.$/, '')
}
