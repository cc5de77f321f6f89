import type { AttentionShape, Runtime, Tier } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { withToggles } from '../dawn-toggles.js'
import { makeCallTensors } from '../device-input.js'
import { type Measurement, NotMeasured, type Row, type Target } from '../row.js'
import { recordAttention, timeInTurn } from '../timing.js'
import { compulsoryBytes, describe, visibleOf, Workbench } from '../workbench.js'

/** Dense attention of the whole square, in TFLOPS. */
async function measureDense(bench: Workbench, shape: AttentionShape, runtime: Runtime): Promise<Measurement> {
  using attention = await bench.use(dense(), shape, false, runtime)
  using tensors = await bench.tensors(shape)
  const { error } = await bench.checked(attention, tensors, { runtime })
  const times = await bench.time({ dense: recordAttention(attention, tensors) })
  const operations = 4 * shape.headDim * visibleOf(shape, false)
  return {
    value: operations / times.dense.medianMs / 1e9,
    setup: describe(shape, false),
    tier: runtime.tier,
    checkedError: error,
    times,
    operations,
    bytes: compulsoryBytes(shape),
  }
}

function denseRow(headDim: number, atLeast: number): Row {
  return {
    name: `dense/head-dim-${headDim}`,
    title: `dense, head_dim ${headDim}`,
    unit: 'TFLOPS',
    target: { atLeast },
    measure: (bench) => measureDense(bench, bench.shape(16384, headDim), bench.runtime),
  }
}

function tierRow(tier: Tier, atLeast: number): Row {
  return {
    name: `tiers/${tier}`,
    title: `dense on the tier ${tier}`,
    unit: 'TFLOPS',
    target: { atLeast },
    measure: async (bench) => measureDense(bench, bench.shape(8192), await bench.ofTier(tier)),
  }
}

/** The same kernel where Dawn is told to do something else than browsers let it: only in Node, and not what the library does. */
function toggleRow(name: string, title: string, toggles: readonly string[], target?: Target): Row {
  return {
    name: `dense/${name}`,
    title,
    unit: 'TFLOPS',
    ...(target && { target }),
    async measure(bench) {
      if (bench.runtime.software) throw new NotMeasured('not available', 'toggles are tried on GPUs only')
      using runtime = await withToggles(toggles)
      if (runtime.tier !== bench.runtime.tier)
        throw new NotMeasured('not available', `with these toggles the device offers the tier ${runtime.tier} only`)
      using other = new Workbench({ ...bench, runtime })
      const found = await measureDense(other, bench.shape(16384), runtime)
      return { ...found, note: `Dawn toggles: ${toggles.join(', ')}` }
    },
  }
}

export const denseRows: readonly Row[] = [
  denseRow(128, 150),
  denseRow(64, 100),
  toggleRow(
    'toggles',
    'dense, head_dim 128, bounds checked by the driver',
    ['vulkan_use_buffer_robust_access_2', 'vulkan_use_cooperative_matrix_robust_access'],
    { atLeast: 200 },
  ),
  toggleRow('unchecked', 'dense, head_dim 128, bounds not checked', ['disable_robustness']),
]

export const tierRows: readonly Row[] = [tierRow('f16', 15), tierRow('portable', 8)]

function causalRow(headDim: number): Row {
  return {
    name: `causal/head-dim-${headDim}`,
    title: `causal against half of not causal, head_dim ${headDim}`,
    unit: '×',
    target: { atMost: 1.15 },
    async measure(bench) {
      const shape = bench.shape(16384, headDim)
      using causal = await bench.use(dense(), shape, true)
      using full = await bench.use(dense(), shape, false)
      using tensors = await makeCallTensors(bench.runtime, shape, bench.seed)
      const checks = [await bench.checked(causal, tensors), await bench.checked(full, tensors)]
      const times = await timeInTurn(
        bench.runtime,
        bench.timer,
        { causal: recordAttention(causal, tensors), 'not causal': recordAttention(full, tensors) },
        bench,
      )
      return {
        value: times.causal.medianMs / (times['not causal'].medianMs / 2),
        setup: describe(shape, true),
        tier: bench.runtime.tier,
        checkedError: Math.max(...checks.map(({ error }) => error)),
        times,
        operations: 4 * shape.headDim * visibleOf(shape, true),
        bytes: compulsoryBytes(shape),
      }
    },
  }
}

export const causalRows: readonly Row[] = [causalRow(128), causalRow(64)]
