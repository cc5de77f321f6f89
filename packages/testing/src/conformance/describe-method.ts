import type { AttentionContext, AttentionShape, MethodFactory, MethodOptions } from '@sparse-attention/core'
import { describe, inject, it, type TestAPI } from 'vitest'
import type { Reference } from '../reference.js'
import { testRuntime, testTiers } from '../test-runtime.js'
import { caseName, conformanceCases } from './cases.js'
import { checkCase } from './check-case.js'
import { contextFor, squareBlock } from './context.js'
import { properties } from './properties.js'
import { sliceOf } from './slice.js'

declare module 'vitest' {
  interface ProvidedContext {
    /**
     * How much of the grid `describeMethod` runs: all of it, which is the default, or the slice that is left where another
     * run has the same shaders, the same adapter and the whole grid. Given as `test.provide` in a vitest config.
     */
    sparseAttentionConformance?: 'all' | 'slice'
  }
}

export interface DescribeMethodOptions<Options extends MethodOptions> {
  /** The method's selection rule in float64. Absent: the method keeps everything. */
  readonly reference?: Reference<Options>
  /** What the method needs beyond tensors, for a shape. Default: a grid, where it takes one. */
  context?(shape: AttentionShape): AttentionContext
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
  { reference, context: given, extra }: DescribeMethodOptions<Options> = {},
): void {
  const { definition } = factory
  const context = contextFor(definition.capabilities, given)
  const method = { factory, reference, context }
  const block = blockSize(factory, reference, context)
  const grid = conformanceCases(definition, block)
  const cases = inject('sparseAttentionConformance') === 'slice' ? sliceOf(grid) : grid
  describe(definition.id, async () => {
    for (const tier of await testTiers()) {
      describe(`tier ${tier}`, () => {
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
      })
    }
    if (extra) describe('extra', () => extra(it))
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
