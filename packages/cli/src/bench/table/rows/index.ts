import type { Row } from '../row.js'
import { decodeRows } from './decode.js'
import { causalRows, denseRows, tierRows } from './dense.js'
import { longPromptRows } from './long-prompt.js'
import { onnxruntimeRows } from './onnxruntime.js'
import { planningRows } from './planning.js'
import { blockRows, skewedRows, stripeRows } from './plans.js'

/** The table, in its order. */
export const rows: readonly Row[] = [
  ...denseRows,
  ...causalRows,
  ...onnxruntimeRows,
  ...blockRows,
  ...stripeRows,
  ...skewedRows,
  ...planningRows,
  ...decodeRows,
  ...tierRows,
  ...longPromptRows,
]
