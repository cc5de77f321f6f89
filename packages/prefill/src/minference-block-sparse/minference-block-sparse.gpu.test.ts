import {
  type AttentionShape,
  blockGrid,
  createRuntime,
  defineMethod,
  type HostBlockPlan,
  hasBlock,
  type Runtime,
} from '@sparse-attention/core'
import { describeMethod, type InputKind, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type MinferenceBlockSparseOptions, minferenceBlockSparse } from './method.js'
import { minferenceBlockSparseReference } from './reference.js'

// The paper's 100 blocks keep everything at the suite's lengths, so it runs with a default that selects.
const { definition } = minferenceBlockSparse
const selecting = defineMethod<MinferenceBlockSparseOptions>({
  ...definition,
  options: { ...definition.options, topK: { ...definition.options.topK, type: 'number', default: 3 } },
})
describeMethod(selecting, { reference: minferenceBlockSparseReference })

describe('minference-block-sparse', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await createRuntime()
  })
  afterAll(() => runtime.dispose())

  const square = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 600, keyLength: 600, headDim: 32 }

  async function run(
    options: Partial<MinferenceBlockSparseOptions>,
    shape: AttentionShape,
    causal: boolean,
    kind: InputKind,
  ): Promise<{ host: HostBlockPlan; path: string }> {
    const { q, k, v } = makeInputs(kind, shape, 'f32', 9)
    const { queryLength, keyLength } = shape
    using attention = await runtime.use(minferenceBlockSparse(options), { ...shape, dtype: 'f32', causal })
    using qTensor = runtime.tensor('f32', [1, 2, queryLength, 32], Float32Array.from(q))
    using kTensor = runtime.tensor('f32', [1, 1, keyLength, 32], Float32Array.from(k))
    using vTensor = runtime.tensor('f32', [1, 1, keyLength, 32], Float32Array.from(v))
    const { plan } = await attention.run({ q: qTensor, k: kTensor, v: vTensor })
    return { host: (await plan.read()) as HostBlockPlan, path: plan.path }
  }

  function keptBlocks(host: HostBlockPlan, head: number, a: number): number[] {
    const { keyBlocks } = blockGrid(host)
    return Array.from({ length: keyBlocks }, (_, c) => c).filter((c) => hasBlock(host, 0, head, a, c))
  }

  test.each([2, 4, 9])('each row keeps exactly min(%i, visible) blocks, forced ones among them', async (topK) => {
    const { host } = await run({ topK }, square, true, 'gaussian')
    for (const head of [0, 1]) {
      for (let a = 0; a < 10; a++) {
        const kept = keptBlocks(host, head, a)
        expect(kept.length, `row ${a}`).toBe(Math.min(topK, a + 1))
        expect(kept.includes(0) && kept.includes(a), `row ${a} keeps block 0 and the diagonal`).toBe(true)
        if (topK === 2) expect(kept, 'the budget holds the forced blocks alone').toEqual(a === 0 ? [0] : [0, a])
      }
    }
    const full = (await run({ topK }, square, false, 'gaussian')).host
    for (let a = 0; a < 10; a++) expect(keptBlocks(full, 1, a).length, `row ${a}, not causal`).toBe(topK)
  })

  test('with zero queries every block ties, and the lower blocks win', async () => {
    const { host } = await run({ topK: 4 }, square, true, 'zero-queries')
    expect(keptBlocks(host, 0, 9)).toEqual([0, 1, 2, 9])
    const full = (await run({ topK: 4 }, square, false, 'zero-queries')).host
    expect(keptBlocks(full, 0, 9)).toEqual([0, 1, 2, 3])
  })

  test("up to the paper's 100 blocks nothing is planned: the path is dense, and says so", async () => {
    const short = { ...square, queryLength: 70, keyLength: 6400 }
    expect((await run({}, short, true, 'gaussian')).path).toBe('dense')
    const { host, path } = await run({}, { ...short, keyLength: 6401 }, false, 'gaussian')
    expect(path).toBe('sparse')
    expect(keptBlocks(host, 0, 0).length).toBe(100)
  })
})
