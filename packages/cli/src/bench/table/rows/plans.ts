import type { HostPlan } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import {
  diagonalBlocks,
  type PlanSize,
  planPairs,
  randomBlocks,
  randomColumns,
  skewedBlocks,
  verticalsAndSlashes,
} from '../plans.js'
import type { Measurement, Row, Target } from '../row.js'
import { recordAttention } from '../timing.js'
import { describe, type Workbench } from '../workbench.js'

/** Attends over a handmade plan, and densely over the same tensors in turn. */
export async function measurePlan(
  bench: Workbench,
  causal: boolean,
  make: (size: PlanSize, seed: number) => HostPlan,
): Promise<Omit<Measurement, 'value'> & { readonly efficiency: number; readonly density: number }> {
  const shape = bench.shape(32768)
  const host = make({ heads: shape.queryHeads, length: shape.keyLength, causal }, bench.seed)
  using attention = await bench.use(dense({ plan: host.kind }), shape, causal)
  const tensors = await bench.tensors(shape)
  // Dense as everyone calls it: not the kernel that was compiled for plans of this kind.
  const baseline = await bench.baseline(shape, causal)
  const given = bench.upload(host, shape)
  using plan = given.uploaded
  const { error } = await bench.checked(attention, tensors, { given })
  const times = await bench.time({
    sparse: recordAttention(attention, tensors, { plan }),
    dense: baseline.record,
  })
  const { kept, visible } = planPairs(host)
  const density = kept / visible
  return {
    efficiency: (times.dense.medianMs * density) / times.sparse.medianMs,
    density,
    setup: describe(shape, causal),
    tier: bench.runtime.tier,
    checkedError: Math.max(error, baseline.error),
    times,
    operations: 4 * shape.headDim * kept,
  }
}

function efficiencyRow(
  name: string,
  title: string,
  target: Target,
  causal: boolean,
  make: (size: PlanSize, seed: number) => HostPlan,
): Row {
  return {
    name,
    title,
    unit: '×',
    target,
    async measure(bench) {
      const { efficiency, ...found } = await measurePlan(bench, causal, make)
      return { value: efficiency, ...found }
    },
  }
}

const blockTargets = [
  [0.5, 0.9],
  [0.1, 0.85],
  [0.03, 0.75],
] as const

const blockKinds = [
  ['random', randomBlocks],
  ['diagonal', diagonalBlocks],
] as const

export const blockRows: readonly Row[] = blockKinds.flatMap(([kind, make]) =>
  [128, 64].flatMap((block) =>
    blockTargets.map(([density, atLeast]) =>
      efficiencyRow(
        `block-sparse/${kind}/${block}/${density}`,
        `${kind === 'random' ? 'random blocks' : 'blocks around the diagonal and random ones'} of ${block}, density ${density}: dense × density ÷ time`,
        { atLeast },
        false,
        (size, seed) => make(size, block, density, seed),
      ),
    ),
  ),
)

export const stripeRows: readonly Row[] = [
  efficiencyRow(
    'stripe/columns',
    'single columns, density 0.1: dense × density ÷ time',
    { atLeast: 0.7 },
    false,
    (size, seed) => randomColumns(size, 128, 0.1, seed),
  ),
  efficiencyRow(
    'stripe/vertical-slash',
    'verticals and slashes, density 0.1: dense × density ÷ time',
    { atLeast: 0.7 },
    true,
    (size, seed) => verticalsAndSlashes(size, 0.1, seed),
  ),
]

function skewedRow(every: number, density: number): Row {
  return {
    name: `skewed/1-in-${every}`,
    title: `one row of blocks in ${every} dense, the others at ${density}: time ÷ (dense × density)`,
    unit: '×',
    target: { atMost: 1.3 },
    async measure(bench) {
      const { efficiency, ...found } = await measurePlan(bench, false, (size, seed) =>
        skewedBlocks(size, 128, density, every, seed),
      )
      return { value: 1 / efficiency, ...found }
    },
  }
}

export const skewedRows: readonly Row[] = [skewedRow(64, 0.03), skewedRow(16, 0.03)]
