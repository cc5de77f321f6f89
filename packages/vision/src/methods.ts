// Written by `pnpm methods` from the folders beside it.
import type { MethodFactory } from '@sparse-attention/core'
import { bilevelRouting } from './bilevel-routing/method.js'
import { shiftedWindows } from './shifted-windows/method.js'

/** The methods of this package, for lists that read what a method says of itself. */
export const methods: readonly MethodFactory[] = [bilevelRouting as MethodFactory, shiftedWindows as MethodFactory]
