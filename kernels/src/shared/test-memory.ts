import type { BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import type { Random } from '@sparse-attention/testing'
import { submitDispatches } from './test-frame.js'

/** Memory of a test of a primitive that needs no attention around it. Free with `dispose`. */
export interface TestMemory extends Disposable {
  /** Exactly the words given, or zeros. */
  words(valuesOrCount: Uint32Array | Int32Array | Float32Array | number): BufferSlice
  scratch(sizeBytes: number): BufferSlice
  /** Submits dispatches and waits. */
  submit(dispatches: readonly Dispatch[]): Promise<void>
  read(slice: BufferSlice): Promise<Uint32Array>
}

export function testMemory(runtime: Runtime): TestMemory {
  const buffers: GPUBuffer[] = []
  const words: TestMemory['words'] = (given) => {
    const values = typeof given === 'number' ? new Uint32Array(given) : given
    const size = values.byteLength
    const buffer = runtime.device.createBuffer({ size, usage: 0x80 | 0x04 | 0x08 }) // STORAGE | COPY_SRC | COPY_DST
    runtime.device.queue.writeBuffer(buffer, 0, values as Uint32Array<ArrayBuffer>)
    buffers.push(buffer)
    return { buffer, offsetBytes: 0, sizeBytes: size }
  }
  return {
    words,
    // Not zeros: a primitive must not rely on what scratch holds.
    scratch: (sizeBytes) => words(new Uint32Array(Math.ceil(sizeBytes / 4)).fill(0x7fc0dead)),
    submit: (dispatches) => submitDispatches(runtime, dispatches),
    read: async (slice) => new Uint32Array(await runtime.readBytes(slice)),
    [Symbol.dispose]() {
      for (const buffer of buffers) buffer.destroy()
    },
  }
}

/** The first index at which two lists differ, or −1: equality of millions of elements, where `toEqual` would take a minute. */
export function firstDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length < expected.length) throw new Error(`${actual.length} elements instead of ${expected.length}`)
  for (let i = 0; i < expected.length; i++) if (actual[i] !== expected[i]) return i
  return -1
}

export function randomPermutation(random: Random, length: number): number[] {
  const order = Array.from({ length }, (_, i) => i)
  for (let i = length - 1; i > 0; i--) {
    const j = random.integer(0, i)
    ;[order[i], order[j]] = [order[j]!, order[i]!]
  }
  return order
}
