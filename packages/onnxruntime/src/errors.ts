import { type Runtime, SparseAttentionError } from '@sparse-attention/core'

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

/** onnxruntime-web asked the GPU for a buffer, and there was no memory for it. */
export function lacksMemory(what: string, cause?: unknown): SparseAttentionError {
  return new SparseAttentionError('OUT_OF_MEMORY', {
    message: `The GPU had no memory for a buffer of ${what}.`,
    fix: 'Free other tensors, shorten the input, or load a smaller model.',
    where: what,
    ...(cause === undefined ? {} : { cause }),
  })
}

/**
 * Throws on where recording failed for what says nothing about whether a model can be recorded.
 *
 * @throws the signal's reason, DEVICE_LOST, DISPOSED, and OUT_OF_MEMORY: another try may find what was missing
 */
export function rethrowUnrelated(error: unknown, runtime: Runtime, signal: AbortSignal | undefined): void {
  signal?.throwIfAborted()
  runtime.assertUsable()
  if (SparseAttentionError.is(error) && error.code === 'OUT_OF_MEMORY') throw error
}

/** Text of a thrown value, for use inside a sentence. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.trim().replace(/\.$/, '')
}
