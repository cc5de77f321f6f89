import type { AttentionShape, Runtime, Tier } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense, tune } from '@sparse-attention/kernels'
import { withToggles } from '../dawn-toggles.js'
import { makeCallTensors } from '../device-input.js'
import { type Measurement, NotMeasured, type Row } from '../row.js'
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

/** A runtime on the same device that runs the variant which is the fastest there, found in this run. */
async function tuned({ signal }: Workbench, runtime: Runtime, headDim: number): Promise<Runtime> {
  const { device, adapterInfo, software, tier, implementation } = runtime
  const { table: tuning } = await tune(runtime, { headDim, dtype: 'f16', causal: false }, { signal })
  return createRuntime({ device, software, tier, implementation, tuning, ...(adapterInfo && { adapterInfo }) })
}

/** Beyond the default: tuned, and where Dawn is told to do something else than browsers let it. */
interface Beyond {
  readonly name: string
  readonly title: string
  readonly toggles?: readonly string[]
  readonly atLeast?: number
}

function beyondRow({ name, title, toggles = [], atLeast }: Beyond): Row {
  return {
    name: `dense/${name}`,
    title,
    unit: 'TFLOPS',
    ...(atLeast !== undefined && { target: { atLeast } }),
    async measure(bench) {
      if (bench.runtime.software) throw new NotMeasured('not available', 'only GPUs are tuned here')
      const shape = bench.shape(16384)
      using own = toggles.length > 0 ? await withToggles(toggles) : undefined
      const untuned = own ?? bench.runtime
      if (untuned.tier !== bench.runtime.tier)
        throw new NotMeasured('not available', `with these toggles the device offers the tier ${untuned.tier} only`)
      using runtime = await tuned(bench, untuned, shape.headDim)
      using other = new Workbench({ ...bench, runtime })
      const found = await measureDense(other, shape, runtime)
      const variants = (runtime.tuning?.entries ?? []).map(({ variant }) => variant)
      const note = [`variant ${variants.join(', ')}`, ...(own ? [`Dawn toggles ${toggles.join(', ')}`] : [])].join('; ')
      return { ...found, note }
    },
  }
}

export const denseRows: readonly Row[] = [
  denseRow(128, 150),
  denseRow(64, 100),
  beyondRow({ name: 'tuned', title: 'dense, head_dim 128, tuned' }),
  beyondRow({
    name: 'toggles',
    title: 'dense, head_dim 128, tuned, bounds checked by the driver instead of the shader',
    toggles: ['vulkan_use_buffer_robust_access_2', 'vulkan_use_cooperative_matrix_robust_access'],
    atLeast: 200,
  }),
  beyondRow({
    name: 'unchecked',
    title: 'dense, head_dim 128, tuned, bounds not checked: not for use',
    toggles: ['disable_robustness'],
  }),
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
