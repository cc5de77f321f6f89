import { type ConfiguredMethod, recall } from '@sparse-attention/core'
import { minferenceVerticalSlash, xattention } from '@sparse-attention/prefill'
import { planPairs } from '../plans.js'
import type { Measurement, Row } from '../row.js'
import { recordAttention } from '../timing.js'
import { describe, type Workbench } from '../workbench.js'

/** 32 runs of 32 keys that every query attends to. */
export const bands = { count: 32, width: 32 } as const

/** The same method, which plans and then attends to nothing: what planning costs by itself. */
export function planningAlone({ method, options }: ConfiguredMethod): ConfiguredMethod {
  return {
    method: {
      ...method,
      async create(runtime, config, given) {
        const program = await method.create(runtime, config, given)
        return { plan: (frame) => program.plan(frame), attend: () => [], dispose: () => program.dispose() }
      },
    },
    options,
  }
}

/** Planning, attending over what was planned, and dense, of one method on a causal prompt with planted bands. */
async function measurePlanning(bench: Workbench, method: ConfiguredMethod) {
  const shape = bench.shape(32768)
  using attention = await bench.use(method, shape, true)
  using planning = await bench.use(planningAlone(method), shape, true)
  const tensors = await bench.tensors(shape, bands)
  const baseline = await bench.baseline(shape, true, bands)
  const checked = await bench.checked(attention, tensors)
  using plan = checked.plan
  const lse = await bench.runtime.read(tensors.lse)
  const times = await bench.time({
    planning: recordAttention(planning, tensors),
    attend: recordAttention(attention, tensors, { plan }),
    dense: baseline.record,
  })
  const { host } = checked
  const { kept, visible } = host ? planPairs(host) : { kept: 1, visible: 1 }
  const found: Omit<Measurement, 'value'> = {
    setup: `${describe(shape, true)}; ${bands.count} bands of ${bands.width} keys, seed ${bench.seed}`,
    tier: bench.runtime.tier,
    checkedError: Math.max(checked.error, baseline.error),
    times,
    density: kept / visible,
    recall: recall(lse, baseline.lse),
  }
  return { times, found }
}

function xattentionRow(stride: number): Row {
  return {
    name: `planning/xattention/stride-${stride}`,
    title: `XAttention's planning, stride ${stride}, as a share of dense`,
    unit: '%',
    ...(stride === 16 && { target: { atMost: 0.07 } }),
    async measure(bench) {
      const { times, found } = await measurePlanning(bench, xattention({ stride }))
      return { value: times.planning.medianMs / times.dense.medianMs, ...found }
    },
  }
}

const verticalSlashRow: Row = {
  name: 'planning/vertical-slash',
  title: "vertical-slash's planning, as a share of attending",
  unit: '%',
  target: { atMost: 0.15 },
  async measure(bench) {
    const { definition } = minferenceVerticalSlash
    const method = minferenceVerticalSlash(definition.scaled(bench.tokens(32768)))
    const { times, found } = await measurePlanning(bench, method)
    return { value: times.planning.medianMs / times.attend.medianMs, ...found }
  },
}

export const planningRows: readonly Row[] = [verticalSlashRow, xattentionRow(16), xattentionRow(8), xattentionRow(4)]
