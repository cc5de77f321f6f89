import {
  type AttentionContext,
  type AttentionShape,
  defineMethod,
  type MethodFactory,
  type MethodOptions,
} from '@sparse-attention/core'
import { describeMethod } from '@sparse-attention/testing'
import { bilevelRouting } from './bilevel-routing/method.js'
import { bilevelRoutingReference } from './bilevel-routing/reference.js'
import { shiftedWindows } from './shifted-windows/method.js'
import { shiftedWindowsReference } from './shifted-windows/reference.js'

/*
 * The conformance suite of all methods in one file: they attend with the same kernels, which are compiled once for it. Head
 * dims end at 80 here, since compiling is most of the time; the kernels' own tests go on to 256.
 */
function upTo80<Options extends MethodOptions>({ definition }: MethodFactory<Options>): MethodFactory<Options> {
  const { capabilities } = definition
  return defineMethod<Options>({
    ...definition,
    capabilities: { ...capabilities, headDim: { ...capabilities.headDim, max: 80 } },
  })
}

/** A grid in which every token has a place, as near to a square as may be; the last layer, so that windows are shifted. */
function context({ keyLength }: AttentionShape): AttentionContext {
  let height = Math.floor(Math.sqrt(keyLength))
  while (keyLength % height !== 0) height--
  return { grid: [height, keyLength / height], layer: 1 }
}

describeMethod(upTo80(bilevelRouting), { reference: bilevelRoutingReference, context })

describeMethod(upTo80(shiftedWindows), { reference: shiftedWindowsReference, context })
