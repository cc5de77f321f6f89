import { summary, type Timing } from '@sparse-attention/compare'
import type { Runtime } from '@sparse-attention/core'
import type { TimingOptions } from './timing.js'

/** Submits of one call that are timed; a call has a few. */
const mostSubmits = 64

/**
 * GPU time of somebody else's calls on the same device: each of its submits gets a timestamp before and after it, and the
 * times between are summed, without what the GPU waits for the host.
 *
 * @returns undefined where the device has no timestamps or the calls do not submit through its queue
 */
export async function timeSubmits(
  runtime: Runtime,
  call: () => Promise<unknown>,
  { samples, signal }: TimingOptions,
): Promise<Timing | undefined> {
  const { device } = runtime
  if (!device.features.has('timestamp-query')) return undefined
  const queries = device.createQuerySet({ type: 'timestamp', count: 2 * mostSubmits })
  const resolved = device.createBuffer({
    size: 16 * mostSubmits,
    usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
  })
  // On the prototype: `device.queue` may be another object each time it is asked for.
  const prototype = Object.getPrototypeOf(device.queue) as GPUQueue
  const submit = prototype.submit
  let submits = 0
  const stamp = (index: number) => {
    const encoder = device.createCommandEncoder()
    const when = index % 2 === 0 ? 'beginningOfPassWriteIndex' : 'endOfPassWriteIndex'
    encoder.beginComputePass({ timestampWrites: { querySet: queries, [when]: index } }).end()
    return encoder.finish()
  }
  const timed = function (this: GPUQueue, buffers: Iterable<GPUCommandBuffer>): undefined {
    const commands = [...buffers]
    if (commands.length === 0 || submits === mostSubmits) return submit.call(this, commands)
    const index = 2 * submits++
    return submit.call(this, [stamp(index), ...commands, stamp(index + 1)])
  }
  const measured: number[] = []
  try {
    for (let i = 0; i <= samples; i++) {
      signal.throwIfAborted()
      await runtime.idle()
      submits = 0
      prototype.submit = timed
      try {
        await call()
      } finally {
        prototype.submit = submit
      }
      if (submits === 0) return undefined
      const encoder = device.createCommandEncoder()
      encoder.resolveQuerySet(queries, 0, 2 * submits, resolved, 0)
      device.queue.submit([encoder.finish()])
      const bytes = await runtime.readBytes({ buffer: resolved, offsetBytes: 0, sizeBytes: 16 * submits })
      const stamps = new BigUint64Array(bytes)
      let nanoseconds = 0
      for (let at = 0; at < stamps.length; at += 2) nanoseconds += Number(stamps[at + 1]! - stamps[at]!)
      if (i > 0) measured.push(nanoseconds / 1e6)
    }
  } finally {
    queries.destroy()
    resolved.destroy()
  }
  return summary(measured)
}
