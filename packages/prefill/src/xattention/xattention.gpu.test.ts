import { createRuntime, type HostBlockPlan, hasBlock, type Runtime } from '@sparse-attention/core'
import { describeMethod, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { xattention } from './method.js'
import { xattentionReference } from './reference.js'

describeMethod(xattention, { reference: xattentionReference })

describe('xattention', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await createRuntime()
  })
  afterAll(() => runtime.dispose())

  const shape = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 300, keyLength: 300, headDim: 32 }
  const config = { ...shape, dtype: 'f32', causal: true } as const

  function tensors(kind: 'gaussian' | 'identical-keys') {
    const { q, k, v } = makeInputs(kind, shape, 'f32', 9)
    return {
      q: runtime.tensor('f32', [1, 2, 300, 32], Float32Array.from(q)),
      k: runtime.tensor('f32', [1, 1, 300, 32], Float32Array.from(k)),
      v: runtime.tensor('f32', [1, 1, 300, 32], Float32Array.from(v)),
    }
  }

  test('each head follows its own threshold, each layer its own row', async () => {
    using attention = await runtime.use(
      xattention({
        blockSize: 64,
        threshold: [
          [1, 1],
          [0, 1],
        ],
      }),
      config,
    )
    const { plan } = await attention.run({ ...tensors('gaussian'), context: { layer: 1 } })
    const host = (await plan.read()) as HostBlockPlan
    for (let a = 0; a < 5; a++) {
      for (let c = 0; c <= a; c++) {
        expect(hasBlock(host, 0, 0, a, c), `head 0 keeps what is forced: (${a}, ${c})`).toBe(c === 0 || c === a)
        expect(hasBlock(host, 0, 1, a, c), `head 1 keeps everything: (${a}, ${c})`).toBe(true)
      }
    }
  })

  test('a layer without thresholds and rows of another number of heads are errors', async () => {
    using attention = await runtime.use(xattention({ threshold: [[0.5, 0.5]] }), config)
    const run = attention.run({ ...tensors('gaussian'), context: { layer: 1 } })
    await expect(run).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'context.layer' })
    await expect(runtime.use(xattention({ threshold: [[0.5]] }), config)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      where: 'threshold',
    })
  })

  test('with identical keys every strided column ties, and the lower blocks win', async () => {
    using attention = await runtime.use(xattention({ threshold: 0.5, blockSize: 64, stride: 4 }), config)
    const { plan } = await attention.run(tensors('identical-keys'))
    const host = (await plan.read()) as HostBlockPlan
    // Row 4 has five blocks. The forced ones, 0 and 4, hold 0.31 of its mass; block 1 brings it to 0.54.
    expect([0, 1, 2, 3, 4].map((c) => hasBlock(host, 0, 0, 4, c))).toEqual([true, true, false, false, true])
  })
})
