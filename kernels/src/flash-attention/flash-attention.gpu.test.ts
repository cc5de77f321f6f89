import { createRuntime, type DType, type HostBlockPlan, type Runtime, uploadPlan } from '@sparse-attention/core'
import { createRandom, expectAttentionClose, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dense } from '../dense/method.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

interface Case {
  readonly dtype: DType
  readonly causal: boolean
  readonly queryLength: number
  readonly keyLength: number
  readonly headDim: number
  readonly blockQ: number
  readonly blockK: number
  readonly density: number
}

const cases: Case[] = [
  { dtype: 'f32', causal: true, queryLength: 300, keyLength: 300, headDim: 64, blockQ: 64, blockK: 64, density: 0.5 },
  {
    dtype: 'f16',
    causal: false,
    queryLength: 130,
    keyLength: 390,
    headDim: 64,
    blockQ: 128,
    blockK: 128,
    density: 0.3,
  },
  { dtype: 'f16', causal: true, queryLength: 150, keyLength: 270, headDim: 128, blockQ: 64, blockK: 192, density: 0.4 },
  { dtype: 'f32', causal: true, queryLength: 70, keyLength: 2300, headDim: 32, blockQ: 64, blockK: 64, density: 0.1 },
]

describe('block-sparse flash attention', () => {
  test.each(cases)(
    '$dtype $queryLength×$keyLength head_dim $headDim blocks $blockQ×$blockK at density $density',
    async (c) => {
      const shape = { batch: 2, queryHeads: 4, kvHeads: 2, ...c }
      const random = createRandom(c.keyLength)
      const words = 2 * 4 * Math.ceil(c.queryLength / c.blockQ) * Math.ceil(Math.ceil(c.keyLength / c.blockK) / 32)
      // Bits past the last block are set too: the kernel must not follow them out of bounds.
      const bitmap = Uint32Array.from({ length: words }, () => {
        let word = 0
        for (let bit = 0; bit < 32; bit++) if (random.uniform() < c.density) word |= 1 << bit
        return word >>> 0
      })
      const host: HostBlockPlan = { kind: 'block', ...shape, bitmap }
      const inputs = makeInputs('gaussian', shape, c.dtype, 4)
      const scale = 1 / Math.sqrt(c.headDim)
      const attention = await runtime.use(dense(), { ...shape, scale })
      using q = runtime.tensor(c.dtype, [2, 4, c.queryLength, c.headDim], Float32Array.from(inputs.q))
      using k = runtime.tensor(c.dtype, [2, 2, c.keyLength, c.headDim], Float32Array.from(inputs.k))
      using v = runtime.tensor(c.dtype, [2, 2, c.keyLength, c.headDim], Float32Array.from(inputs.v))
      using plan = uploadPlan(runtime, host, shape)
      const { out, lse } = await attention.run({ q, k, v }, { plan })
      const mask = await plan.toMask()
      expect(mask.some((bit) => bit === 0) && mask.some((bit) => bit === 1)).toBe(true)
      const actual = { out: await runtime.read(out), lse: await runtime.read(lse) }
      expectAttentionClose(actual, { ...shape, ...inputs, mask, scale, dtype: c.dtype, name: JSON.stringify(c) })
      out.buffer.destroy()
      lse.buffer.destroy()
      attention.dispose()
    },
  )
})
