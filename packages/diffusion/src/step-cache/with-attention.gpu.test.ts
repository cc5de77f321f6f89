import { makeInputs, testRuntime } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { liteAttention } from '../lite-attention/index.js'
import { stepCache } from './index.js'

test('a step that is reused advances nothing that sparse attention carries', async () => {
  const runtime = await testRuntime()
  const [tokens, headDim, steps] = [330, 32, 6]
  const shape = { batch: 1, queryHeads: 1, kvHeads: 1, queryLength: tokens, keyLength: tokens, headDim }
  const { q, k, v } = makeInputs('stripes', shape, 'f32', 5)
  const config = { queryHeads: 1, headDim, dtype: 'f32', causal: false, scale: 0.1 } as const
  using attention = await runtime.use(liteAttention({ threshold: -4, blockQ: 64 }), config)
  const upload = (x: Float64Array) => runtime.tensor('f32', [1, 1, tokens, headDim], Float32Array.from(x))
  using tk = upload(k)
  using tv = upload(v)

  /** A model of one attention, and the blocks that each evaluation computed. */
  async function video(threshold: number, wanted: (step: number) => boolean): Promise<(Uint32Array | undefined)[]> {
    using state = attention.createState()
    const cache = stepCache<Float32Array>({ threshold })
    const plans: (Uint32Array | undefined)[] = []
    for (let step = 0; step < steps; step++) {
      if (!wanted(step)) continue
      await cache.run({ step, steps, signal: [1.1 ** step] }, async () => {
        // Scores grow from step to step, so that each evaluation needs fewer blocks.
        using tq = upload(q.map((x) => x * 1.5 ** step))
        const call = { q: tq, k: tk, v: tv, state, context: { step, steps } }
        const { out, lse, plan } = await attention.run(call)
        const host = await plan.read()
        plans[step] = host.kind === 'block' ? host.bitmap : undefined
        const output = await runtime.read(out)
        out.buffer.destroy()
        lse.buffer.destroy()
        return output
      })
    }
    return plans
  }

  // Changes of 0.1 a step: every third step is evaluated, and the last.
  const cached = await video(0.25, () => true)
  expect(Object.keys(cached)).toEqual(['0', '3', '5'])
  expect(cached).toEqual(await video(0, (step) => [0, 3, 5].includes(step)))
  expect(cached[5]).not.toEqual(cached[3])
  expect((await video(0, () => true))[3]).not.toEqual(cached[3])
})
