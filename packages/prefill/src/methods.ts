// Written by `pnpm methods` from the folders beside it.
import type { MethodFactory } from '@sparse-attention/core'
import { aShape } from './a-shape/method.js'
import { minferenceBlockSparse } from './minference-block-sparse/method.js'
import { minferenceVerticalSlash } from './minference-vertical-slash/method.js'
import { xattention } from './xattention/method.js'

/** The methods of this package, for lists that read what a method says of itself. */
export const methods: readonly MethodFactory[] = [
  aShape as MethodFactory,
  minferenceBlockSparse as MethodFactory,
  minferenceVerticalSlash as MethodFactory,
  xattention as MethodFactory,
]
