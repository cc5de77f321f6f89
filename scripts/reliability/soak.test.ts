import { createRuntime, type Runtime } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { xattention } from '@sparse-attention/prefill'
import { trackBuffers } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { everyMethod, runAndRead, smallCall } from './every-method.js'

declare module 'vitest' {
  interface ProvidedContext {
    /** Runs of each method. Absent in the gate, where a few methods are run a few times. */
    sparseAttentionSoak?: number
  }
}

const soak = inject('sparseAttentionSoak')
const runs = soak ?? 20
/** The conformance suite runs every method fifty times; here the gate shows that the soak works. */
const methods = soak === undefined ? everyMethod.slice(0, 1) : everyMethod

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Bytes of the heap in use, garbage collected where that can be asked for. */
function heapBytes(): number {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

describe(`${runs} runs`, () => {
  test.each(methods.map((method) => [method.definition.id, method] as const))(
    '%s: the same bits, at constant memory',
    async (_, method) => {
      using call = smallCall(runtime, method, 1)
      using attention = await runtime.use(method(), call.config)
      const first = await runAndRead(runtime, attention, method, call)
      for (let n = 0; n < 5; n++) await runAndRead(runtime, attention, method, call)
      using buffers = trackBuffers(runtime.device)
      const scratch = runtime.scratch.allocatedBytes
      const heap = heapBytes()
      for (let n = 0; n < runs; n++) {
        const again = await runAndRead(runtime, attention, method, call)
        if (again.some((x, i) => !Object.is(x, first[i]))) throw new Error(`run ${n} gives something else`)
        if (buffers.live > 0) throw new Error(`run ${n} left ${buffers.live} buffers of ${buffers.liveBytes} bytes`)
      }
      expect(runtime.scratch.allocatedBytes).toBe(scratch)
      // A leak of one object of 100 bytes a run would not show; what is left of each result would.
      expect(heapBytes() - heap).toBeLessThan(32 * 2 ** 20)
    },
  )
})

test('two runtimes and 32 requests at once on one device give what one request gives', async () => {
  const { device, adapterInfo } = runtime
  const chosen = soak === undefined ? [dense, xattention] : everyMethod
  using other = await createRuntime({ device, ...(adapterInfo && { adapterInfo }) })
  for (const method of chosen as typeof everyMethod) {
    const inputs = [1, 2, 3, 4].map((seed) => smallCall(runtime, method, seed))
    const { config } = inputs[0]!
    const attentions = [await runtime.use(method(), config), await other.use(method(), config)]
    attentions.push(await runtime.use(method(), config), await other.use(method(), config))
    const alone = []
    for (const input of inputs) alone.push(await runAndRead(runtime, attentions[0]!, method, input))
    using buffers = trackBuffers(device)
    const requests = Array.from({ length: 32 }, (_, n) => {
      const owner = n % 2 === 0 ? runtime : other
      return runAndRead(owner, attentions[n % 4]!, method, inputs[(n * 7) % 4]!)
    })
    for (const [n, result] of (await Promise.all(requests)).entries()) {
      const expected = alone[(n * 7) % 4]!
      const same = result.length === expected.length && result.every((x, i) => Object.is(x, expected[i]))
      expect(same, `${method.definition.id}, request ${n}`).toBe(true)
    }
    for (const attention of attentions) attention.dispose()
    for (const input of inputs) input[Symbol.dispose]()
    other.scratch.trim()
    runtime.scratch.trim()
    // What is left are the uniforms of each runtime, which are shared and kept.
    expect(buffers.liveBytes).toBeLessThan(64 * 1024)
  }
})
