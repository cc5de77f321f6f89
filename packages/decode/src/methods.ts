// Written by `pnpm methods` from the folders beside it.
import type { MethodFactory } from '@sparse-attention/core'
import { quest } from './quest/method.js'
import { sinkWindow } from './sink-window/method.js'
import { twilight } from './twilight/method.js'

/** The methods of this package, for lists that read what a method says of itself. */
export const methods: readonly MethodFactory[] = [
  quest as MethodFactory,
  sinkWindow as MethodFactory,
  twilight as MethodFactory,
]
