import type { MethodFactory } from '@sparse-attention/core'
import { dense } from './dense/method.js'

/** The methods of this package, for lists that read what a method says of itself. */
export const methods: readonly MethodFactory[] = [dense as MethodFactory]
