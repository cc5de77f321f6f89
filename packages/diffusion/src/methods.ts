// Written by `pnpm methods` from the folders beside it.
import type { MethodFactory } from '@sparse-attention/core'
import { liteAttention } from './lite-attention/method.js'

/** The methods of this package, for lists that read what a method says of itself. */
export const methods: readonly MethodFactory[] = [liteAttention as MethodFactory]
