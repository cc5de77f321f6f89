import { defineMethod, type MethodFactory, type MethodOptions } from '@sparse-attention/core'
import { describeMethod } from '@sparse-attention/testing'
import { type LiteAttentionOptions, liteAttention } from './lite-attention/method.js'
import { liteAttentionReference } from './lite-attention/reference.js'
import { type SparseVideogenOptions, sparseVideogen } from './sparse-videogen/method.js'
import { sparseVideogenReference } from './sparse-videogen/reference.js'
import { type SparseVideogen2Options, sparseVideogen2 } from './sparse-videogen-2/method.js'
import { sparseVideogen2Reference } from './sparse-videogen-2/reference.js'

/*
 * The conformance suite of all methods in one file: they attend with the same kernels, which are compiled once for it. It runs
 * with defaults that select at the suite's lengths.
 */

/** One slice of a row or less, two that are not full, two, and four: what kernels of methods here differ in. LiteAttention has all dims. */
const headDims = [32, 80, 128, 256]

/** The method with other defaults. */
function selecting<Options extends MethodOptions>(
  { definition }: MethodFactory<Options>,
  defaults: Partial<Options>,
): MethodFactory<Options> {
  const options = Object.entries<object>(definition.options).map(([name, spec]) => [
    name,
    name in defaults ? { ...spec, default: defaults[name] } : spec,
  ])
  return defineMethod<Options>({ ...definition, options: Object.fromEntries(options) })
}

describeMethod<LiteAttentionOptions>(selecting(liteAttention, { threshold: -4, blockQ: 64 }), {
  reference: liteAttentionReference,
})

describeMethod<SparseVideogen2Options>(
  selecting(sparseVideogen2, { queryClusters: 5, keyClusters: 12, topP: 0.6, initialIterations: 1, iterations: 1 }),
  { reference: sparseVideogen2Reference, headDims },
)

describeMethod<SparseVideogenOptions>(
  selecting(sparseVideogen, { density: 0.3, sampledRows: 5, profileFrames: 1, blockSize: 64 }),
  { reference: sparseVideogenReference, headDims },
)
