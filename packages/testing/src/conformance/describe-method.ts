import type { AttentionContext, AttentionShape, MethodFactory, MethodOptions, Tier } from '@sparse-attention/core'
import { describe, inject, it, type TestAPI } from 'vitest'
import { seedFrom } from '../random.js'
import type { Reference } from '../reference.js'
import { testRuntime, testTiers } from '../test-runtime.js'
import type { FuzzOptions } from './assert-at-random.js'
import { caseName, conformanceCases } from './cases.js'
import { checkCase, type MethodUnderTest } from './check-case.js'
import { contextFor, squareBlock } from './context.js'
import { fuzzMethod } from './fuzz.js'
import { fuzzCalls } from './fuzz-calls.js'
import { properties } from './properties.js'
import { sliceOf } from './slice.js'

declare module 'vitest' {
  interface ProvidedContext {
    /**
     * How much of the grid `describeMethod` runs: all of it, which is the default, or the slice that is left where another
     * run has the same shaders, the same adapter and the whole grid. Given as `test.provide` in a vitest config.
     */
    sparseAttentionConformance?: 'all' | 'slice'
    /** In place of all that, looks at cases and calls at random for so long; and at all places of a fault. */
    sparseAttentionFuzz?: FuzzOptions
  }
}

export interface DescribeMethodOptions<Options extends MethodOptions> {
  /** The method's selection rule in float64. Absent: the method keeps everything. */
  readonly reference?: Reference<Options>
  /** What the method needs beyond tensors, for a shape. Default: a grid, where it takes one. */
  context?(shape: AttentionShape): AttentionContext
  /**
   * Head dims of the grid. Default: 32, 64, 80, 96, 128 and 256. Fewer where methods share their kernels, which are compiled for
   * each and tested by themselves.
   */
  readonly headDims?: readonly number[]
  /** Cases that only this method has. */
  extra?(it: TestAPI): void
}

/** A software adapter computes about half a GFLOPS, and one core may be all there is. */
const timeout = 120_000

/**
 * The conformance suite, read from the method's own metadata, on every tier that the adapter offers: a grid of about 60
 * cases in which every two conditions come together, and the properties that every method has. A case's name is its parameter list, and the seed of its
 * data: `vitest -t 'q129 k1 heads8/1'` runs it alone. Call it in a file named `*.gpu.test.ts`, once for each method.
 *
 * ```ts
 * describeMethod(xattention, {
 *   reference: xattentionReference,
 *   extra(it) {
 *     it('keeps the diagonal block', async () => { … })
 *   },
 * })
 * ```
 */
export function describeMethod<Options extends MethodOptions>(
  factory: MethodFactory<Options>,
  { reference, context: given, headDims, extra }: DescribeMethodOptions<Options> = {},
): void {
  const { definition } = factory
  const context = contextFor(definition.capabilities, given)
  const method: MethodUnderTest<Options> = { factory, reference, context }
  const block = blockSize(factory, reference, context)
  const grid = conformanceCases(definition, block, headDims)
  const fuzz = inject('sparseAttentionFuzz')
  const slice = inject('sparseAttentionConformance') === 'slice'
  const cases = slice ? sliceOf(grid) : grid
  describe(definition.id, async () => {
    for (const tier of await testTiers()) {
      describe(`tier ${tier}`, () => {
        if (fuzz) {
          describeFuzz(tier, method, block, fuzz)
          return
        }
        describe('case', () => {
          for (const c of cases) {
            it(caseName(c), async () => checkCase(await testRuntime(tier), method, c), timeout)
          }
        })
        describe('property', () => {
          for (const { name, check } of properties(definition)) {
            it(name, async () => check({ runtime: await testRuntime(tier), method, block }), timeout)
          }
        })
        // Chance finds the same with the same shaders.
        if (!slice) describeFuzz(tier, method, block, { seed: seedFrom(definition.id) & 0x7fffffff })
      })
    }
    if (extra) describe('extra', () => extra(it))
  })
}

/** What nobody thought of: cases at random, and sequences of calls. A seed gives the same ones again. */
function describeFuzz<Options extends MethodOptions>(
  tier: Tier,
  method: MethodUnderTest<Options>,
  block: { readonly q: number; readonly k: number },
  options: FuzzOptions,
): void {
  const { seed, seconds = 0 } = options
  const faults = properties(method.factory.definition).filter(({ name }) => name.startsWith('whichever buffer'))
  describe(`fuzz, seed ${seed}`, () => {
    const allowed = timeout + 3000 * seconds
    it('cases at random', async () => fuzzMethod(await testRuntime(tier), method, block, options), allowed)
    it(
      'calls at random, one after another',
      async () => fuzzCalls(await testRuntime(tier), method, block, options),
      allowed,
    )
    if (seconds === 0) return
    for (const { name, check } of faults) {
      const long = async () => check({ runtime: await testRuntime(tier), method, block, long: true })
      it(name, long, 10 * timeout)
    }
  })
}

/** Block sizes of the method's plans: its reference tells. Lengths around them are where kernels break. */
export function blockSize<Options extends MethodOptions>(
  factory: MethodFactory<Options>,
  reference: Reference<Options> | undefined,
  context: ((shape: AttentionShape) => AttentionContext) | undefined,
): { q: number; k: number } {
  // Without a plan, lengths around the tiles of the attention kernel are as good as any.
  if (!reference) return { q: 64, k: 64 }
  const { capabilities } = factory.definition
  const headDim = capabilities.headDim.multipleOf
  const queryLength = capabilities.queryLength === 'many' || capabilities.selfAttention ? 2 : 1
  const shape = { batch: 1, queryHeads: 1, kvHeads: 1, queryLength, keyLength: 2, headDim }
  const { blockQ, blockK } = reference(
    {
      ...shape,
      q: new Float64Array(queryLength * headDim),
      k: new Float64Array(2 * headDim),
      v: new Float64Array(2 * headDim),
      causal: capabilities.causal[0]!,
      scale: 1,
      context: context?.(shape) ?? {},
    },
    factory().options,
  )
  // Stripes and pages are smaller than the tiles of the attention kernel, around which lengths break it.
  return squareBlock(factory.definition, { q: blockQ, k: Math.max(blockK, 64) })
}
