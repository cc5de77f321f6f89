import { createRuntime, type Runtime } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { xattention } from '@sparse-attention/prefill'
import { trackBuffers } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { everyMethod, runAndRead, smallCall, smallOptions } from './every-method.js'
import { repeat } from './repeat.js'

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

describe(`${runs} runs`, () => {
  test.each(methods.map((method) => [method.definition.id, method] as const))(
    '%s: the same bits, at constant memory',
    async (id, method) => {
      using call = smallCall(runtime, method, 1)
      using attention = await runtime.use(method(smallOptions(method.definition)), call.config)
      // Of a state, the first call and one that finds what it left.
      const run = () => runAndRead(runtime, attention, method, call, 2)
      const { values: first, path } = await run()
      expect(path).toBe(id === 'dense' ? 'dense' : 'sparse')
      const { scratch, device } = runtime
      using buffers = trackBuffers(device)
      let before = { live: 0, scratch: scratch.allocatedBytes }
      await repeat(id, runs, async (n) => {
        const { values } = await run()
        if (values.some((x, i) => !Object.is(x, first[i]))) throw new Error(`run ${n} gives something else`)
        const after = { live: buffers.live, scratch: scratch.allocatedBytes }
        // The first run may have left the pools fuller.
        if (n === 0) before = after
        expect(after, `run ${n}`).toEqual(before)
      })
      expect(before.live).toBe(0)
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
    const options = smallOptions(method.definition)
    const use = (owner: Runtime) => owner.use(method(options), config)
    const attentions = [await use(runtime), await use(other), await use(runtime), await use(other)]
    const alone = []
    for (const input of inputs) alone.push((await runAndRead(runtime, attentions[0]!, method, input)).values)
    using buffers = trackBuffers(device)
    const requests = Array.from({ length: 32 }, (_, n) => {
      const owner = n % 2 === 0 ? runtime : other
      return runAndRead(owner, attentions[n % 4]!, method, inputs[(n * 7) % 4]!)
    })
    for (const [n, { values: result }] of (await Promise.all(requests)).entries()) {
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
