import { createRuntime, defineMethod, type Plan, type Runtime } from '@sparse-attention/core'
import { describeMethod, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AShapeOptions, aShape } from './method.js'
import { aShapeReference } from './reference.js'

// The paper's 5120 tokens keep everything at the suite's lengths, so it runs with defaults that select.
const { definition } = aShape
const selecting = defineMethod<AShapeOptions>({
  ...definition,
  options: {
    sink: { ...definition.options.sink, type: 'number', default: 40 },
    localWindow: { ...definition.options.localWindow, type: 'number', default: 100 },
  },
})
describeMethod(selecting, { reference: aShapeReference })

describe('a-shape', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await createRuntime()
  })
  afterAll(() => runtime.dispose())

  async function withPlan<T>(
    options: Partial<AShapeOptions>,
    [queryLength, keyLength]: readonly [number, number],
    use: (plan: Plan) => Promise<T>,
  ): Promise<T> {
    const shape = { batch: 1, queryHeads: 1, kvHeads: 1, queryLength, keyLength, headDim: 8 }
    const { q, k, v } = makeInputs('gaussian', shape, 'f32', 1)
    using attention = await runtime.use(aShape(options), { ...shape, dtype: 'f32', causal: true })
    using qTensor = runtime.tensor('f32', [1, 1, queryLength, 8], Float32Array.from(q))
    using kTensor = runtime.tensor('f32', [1, 1, keyLength, 8], Float32Array.from(k))
    using vTensor = runtime.tensor('f32', [1, 1, keyLength, 8], Float32Array.from(v))
    const { out, lse, plan } = await attention.run({ q: qTensor, k: kTensor, v: vTensor })
    const used = await use(plan)
    out.buffer.destroy()
    lse.buffer.destroy()
    return used
  }

  test.each([
    [1, 1],
    [64, 64],
    [65, 1],
    [10, 129],
    [0, 200],
  ])(
    'sink %i and window %i: every pair of the pattern, and at most the rest of its blocks',
    async (sink, localWindow) => {
      const mask = await withPlan({ sink, localWindow }, [250, 321], (plan) => plan.toMask())
      for (let row = 0; row < 250; row++) {
        const position = row + 71
        for (let j = 0; j < 321; j++) {
          const asked = j <= position && (j < sink || position - j < localWindow)
          const near = j <= position && (j < sink + 63 || position - j < localWindow + 126)
          const kept = mask[row * 321 + j] === 1
          if ((asked && !kept) || (kept && !near)) throw new Error(`pair (${row}, ${j}) is ${kept ? '' : 'not '}kept`)
        }
      }
    },
  )

  test('inside the window or the sinks nothing is planned: the path is dense, and says so', async () => {
    const path = (plan: Plan) => Promise.resolve(plan.path)
    expect(await withPlan({}, [70, 4096], path)).toBe('dense')
    expect(await withPlan({ sink: 300, localWindow: 5 }, [20, 300], path)).toBe('dense')
    expect(await withPlan({}, [70, 4097], path)).toBe('sparse')
  })

  test.each([1024, 4096])('scaled options keep 0.2 to 0.5 of %i tokens', async (length) => {
    const { density } = await withPlan(definition.scaled(length), [length, length], (plan) => plan.stats())
    expect(density).toBeGreaterThan(0.2)
    expect(density).toBeLessThan(0.5)
  })
})
