const wrapped: unique symbol = Symbol.for('sparse-attention.node.acceptsSharedMemory') as never

/**
 * Lets `queue.writeBuffer` take what browsers take and Dawn's Node binding refuses: views of a `SharedArrayBuffer`, which
 * onnxruntime-web passes when its wasm has threads, and `DataView`. It copies them: only the bytes to be written.
 *
 * @param prototype `GPUQueue.prototype`; wrapped once, however often this is called
 */
export function acceptSharedMemory(prototype: GPUQueue): void {
  const target = prototype as GPUQueue & { [wrapped]?: true }
  if (target[wrapped]) return
  const { writeBuffer } = target

  target.writeBuffer = function (buffer, bufferOffset, data, dataOffset = 0, size): undefined {
    const view = ArrayBuffer.isView(data)
    const memory: ArrayBufferLike = view ? data.buffer : data
    if (!(memory instanceof SharedArrayBuffer || data instanceof DataView)) {
      return writeBuffer.call(this, buffer, bufferOffset, data as GPUAllowSharedBufferSource, dataOffset, size)
    }
    const bytes = new Uint8Array(memory, view ? data.byteOffset : 0, data.byteLength)
    // `dataOffset` and `size` count elements of a typed array, and bytes of anything else.
    const unit = 'BYTES_PER_ELEMENT' in data ? Number(data.BYTES_PER_ELEMENT) : 1
    const start = dataOffset * unit
    const end = size === undefined ? Math.max(start, bytes.length) : start + size * unit
    if (end > bytes.length) {
      // Dawn's own error for a range outside the data, from ordinary memory of that length.
      return writeBuffer.call(this, buffer, bufferOffset, new Uint8Array(bytes.length), start, end - start)
    }
    return writeBuffer.call(this, buffer, bufferOffset, bytes.slice(start, end))
  }
  Object.defineProperty(target, wrapped, { value: true })
}
