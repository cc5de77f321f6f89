const wrapped: unique symbol = Symbol.for('sparse-attention.node.acceptsSharedMemory') as never

/**
 * Lets `queue.writeBuffer` take views of a `SharedArrayBuffer`, as browsers do: Dawn's Node binding refuses them, and
 * onnxruntime-web passes them when its wasm has threads. Only the bytes to be written are copied.
 *
 * @param prototype `GPUQueue.prototype`; wrapped once, however often this is called
 */
export function acceptSharedMemory(prototype: GPUQueue): void {
  const target = prototype as GPUQueue & { [wrapped]?: true }
  if (target[wrapped]) return
  const writeBuffer = target.writeBuffer as (
    this: GPUQueue,
    buffer: GPUBuffer,
    bufferOffset: number,
    data: AllowSharedBufferSource,
    dataOffset?: number,
    size?: number,
  ) => undefined

  target.writeBuffer = function (buffer, bufferOffset, data, dataOffset, size): undefined {
    const shared = typeof SharedArrayBuffer !== 'undefined' && backing(data) instanceof SharedArrayBuffer
    if (!shared) return writeBuffer.call(this, buffer, bufferOffset, data, dataOffset, size)
    // `dataOffset` and `size` count elements of a typed array, and bytes of anything else.
    const unit = ArrayBuffer.isView(data) && 'BYTES_PER_ELEMENT' in data ? Number(data.BYTES_PER_ELEMENT) : 1
    const start = Math.min((dataOffset ?? 0) * unit, data.byteLength)
    const end = size === undefined ? data.byteLength : start + size * unit
    // A range that is too long reaches Dawn unclamped, so that its own error reports it.
    if ((dataOffset ?? 0) * unit > data.byteLength || end > data.byteLength) {
      return writeBuffer.call(
        this,
        buffer,
        bufferOffset,
        new Uint8Array(data.byteLength),
        (dataOffset ?? 0) * unit,
        end - start,
      )
    }
    const base = ArrayBuffer.isView(data) ? data.byteOffset : 0
    return writeBuffer.call(
      this,
      buffer,
      bufferOffset,
      new Uint8Array(backing(data), base + start, end - start).slice(),
    )
  }
  Object.defineProperty(target, wrapped, { value: true })
}

function backing(data: AllowSharedBufferSource): ArrayBufferLike {
  return ArrayBuffer.isView(data) ? data.buffer : data
}
