import { dense } from '@sparse-attention/kernels'
import type { Row } from '../row.js'
import { recordAttention } from '../timing.js'
import { compulsoryBytes, describe, visibleOf } from '../workbench.js'

function decodeRow(group: number): Row {
  return {
    name: `decode/group-${group}`,
    title: `one token, ${group} query heads a KV head: bytes ÷ time, as a share of a copy's`,
    unit: '%',
    target: { atLeast: 0.7 },
    async measure(bench) {
      const kvHeads = bench.heads(8)
      const sizes = { queryLength: 1, keyLength: bench.tokens(131072), headDim: bench.headDim(128) }
      const shape = { batch: 1, queryHeads: kvHeads * group, kvHeads, ...sizes }
      using attention = await bench.use(dense({ kernel: 'split' }), shape, true)
      const tensors = await bench.tensors(shape)
      const { error } = await bench.checked(attention, tensors)
      const times = await bench.time({ attend: recordAttention(attention, tensors) })
      const bytes = compulsoryBytes(shape)
      return {
        value: bytes / (times.attend.medianMs / 1000) / bench.ceilings.bytesPerSecond,
        setup: describe(shape, true),
        tier: bench.runtime.tier,
        checkedError: error,
        times,
        operations: 4 * shape.headDim * visibleOf(shape, true),
        bytes,
      }
    },
  }
}

export const decodeRows: readonly Row[] = [decodeRow(4), decodeRow(1), decodeRow(8)]
