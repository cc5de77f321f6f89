// Written by `pnpm methods` from the folders beside it.
import type { MethodFactory } from '@sparse-attention/core'
import { liteAttention } from './lite-attention/method.js'
import { sparseVideogen } from './sparse-videogen/method.js'
import { sparseVideogen2 } from './sparse-videogen-2/method.js'

/** The methods of this package, for lists that read what a method says of itself. */
export const methods: readonly MethodFactory[] = [
  liteAttention as MethodFactory,
  sparseVideogen as MethodFactory,
  sparseVideogen2 as MethodFactory,
]
