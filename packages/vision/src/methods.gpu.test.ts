import type { AttentionContext, AttentionShape } from '@sparse-attention/core'
import { describeMethod } from '@sparse-attention/testing'
import { bilevelRouting } from './bilevel-routing/method.js'
import { bilevelRoutingReference } from './bilevel-routing/reference.js'
import { shiftedWindows } from './shifted-windows/method.js'
import { shiftedWindowsReference } from './shifted-windows/reference.js'

/*
 * The conformance suite of all methods in one file: they attend with the same kernels, which are compiled once for it.
 */

/** A grid in which every token has a place, as near to a square as may be; the last layer, so that windows are shifted. */
function context({ keyLength }: AttentionShape): AttentionContext {
  let height = Math.floor(Math.sqrt(keyLength))
  while (keyLength % height !== 0) height--
  return { grid: [height, keyLength / height], layer: 1 }
}

describeMethod(bilevelRouting, { reference: bilevelRoutingReference, context })

describeMethod(shiftedWindows, { reference: shiftedWindowsReference, context })
