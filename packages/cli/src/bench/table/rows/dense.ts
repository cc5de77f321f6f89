import { GpuTimer } from '@sparse-attention/compare'
import type { AttentionShape, Runtime, Tier, TuningTable } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense, tune } from '@sparse-attention/kernels'
import { withToggles } from '../dawn-toggles.js'
import { type Measurement, NotMeasured, type Row } from '../row.js'
import { recordAttention } from '../timing.js'
import { compulsoryBytes, describe, visibleOf, Workbench } from '../workbench.js'

/** Dense attention of the whole square, in TFLOPS. */
async function measureDense(bench: Workbench, shape: AttentionShape, runtime: Runtime): Promise<Measurement> {
  using attention = await bench.use(dense(), shape, false, runtime)
  const tensors = await bench.tensors(shape)
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

/** The fastest variant on this device, found once in a run. */
const tables = new WeakMap<Workbench, Promise<TuningTable>>()

function tuningOf(bench: Workbench, headDim: number): Promise<TuningTable> {
  const { runtime, signal } = bench
  const call = { headDim, dtype: 'f16', causal: false } as const
  const found = tables.get(bench) ?? tune(runtime, call, { signal }).then(({ table }) => table)
  tables.set(bench, found)
  return found
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
      const { device, adapterInfo, tier, implementation } = bench.runtime
      const tuning = await tuningOf(bench, shape.headDim)
      const options = { software: false, tier, implementation, tuning }
      using runtime =
        toggles.length > 0
          ? await withToggles(toggles, options)
          : await createRuntime({ device, ...options, ...(adapterInfo && { adapterInfo }) })
      using timer = await GpuTimer.for(runtime)
      using other = new Workbench({ ...bench, runtime, timer })
      const found = await measureDense(other, shape, runtime)
      const variant = tuning.entries.map((entry) => entry.variant).join(', ')
      return {
        ...found,
        note: [`variant '${variant}'`, ...toggles.map((toggle) => `Dawn toggle ${toggle}`)].join('; '),
      }
    },
  }
}

export const denseRows: readonly Row[] = [
  denseRow(128, 150),
  denseRow(64, 100),
  beyondRow({ name: 'tuned', title: 'dense, head_dim 128, tuned' }),
  beyondRow({
    name: 'toggles',
    title: 'dense, head_dim 128, tuned, bounds checked where they are not proven, or by the driver',
    toggles: ['enable_integer_range_analysis_in_robustness', 'vulkan_use_buffer_robust_access_2'],
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
      const [causal, full] = [await bench.baseline(shape, true), await bench.baseline(shape, false)]
      const times = await bench.time({ causal: causal.record, 'not causal': full.record })
      return {
        value: times.causal.medianMs / (times['not causal'].medianMs / 2),
        setup: describe(shape, true),
        tier: bench.runtime.tier,
        checkedError: Math.max(causal.error, full.error),
        times,
        operations: 4 * shape.headDim * visibleOf(shape, true),
        bytes: compulsoryBytes(shape),
      }
    },
  }
}

export const causalRows: readonly Row[] = [causalRow(128), causalRow(64)]
