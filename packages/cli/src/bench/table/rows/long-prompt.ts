import { recall } from '@sparse-attention/core'
import { xattention } from '@sparse-attention/prefill'
import { planPairs } from '../plans.js'
import type { Row } from '../row.js'
import { recordAttention } from '../timing.js'
import { compulsoryBytes, describe } from '../workbench.js'
import { bands, planningAlone } from './planning.js'

/** The prompt that dense attention takes longest for, against the fastest dense attention there is. */
export const longPromptRows: readonly Row[] = [
  {
    name: 'long-prompt',
    title: "XAttention, stride 16, planning and attending, ÷ PyTorch's cuDNN, dense",
    unit: '×',
    target: { atMost: 1 },
    async measure(bench) {
      const shape = bench.shape(131072)
      const method = xattention({ stride: 16 })
      using attention = await bench.use(method, shape, true)
      using planning = await bench.use(planningAlone(method), shape, true)
      const tensors = await bench.tensors(shape, bands)
      const baseline = await bench.baseline(shape, true, bands)
      const sparse = await bench.checked(attention, tensors)
      const lse = await bench.runtime.read(tensors.lse)
      using plan = sparse.plan
      const times = await bench.time({
        'planning and attend': recordAttention(attention, tensors),
        planning: recordAttention(planning, tensors),
        attend: recordAttention(attention, tensors, { plan }),
        dense: baseline.record,
      })
      const { kept, visible } = sparse.host ? planPairs(sparse.host) : { kept: 1, visible: 1 }
      const density = kept / visible
      const cudnn = bench.pytorch.results.find(
        ({ backend, length, causal }) => backend === 'cudnn' && length === shape.keyLength && causal,
      )
      return {
        value: cudnn?.gpu ? times['planning and attend'].medianMs / cudnn.gpu.medianMs : null,
        setup: `${describe(shape, true)}; ${bands.count} bands of ${bands.width} keys, seed ${bench.seed}`,
        tier: bench.runtime.tier,
        checkedError: Math.max(baseline.error, sparse.error),
        times: { ...times, ...(cudnn?.gpu && { 'PyTorch cuDNN, dense': cudnn.gpu }) },
        bytes: compulsoryBytes(shape),
        operations: 4 * shape.headDim * kept,
        density,
        recall: recall(lse, baseline.lse),
        ...(!cudnn?.gpu && {
          note: `nothing of PyTorch to compare with: ${bench.pytorch.reason ?? cudnn?.reason ?? 'not timed at this length'}`,
        }),
      }
    },
  },
]
