import { performance } from 'node:perf_hooks'
import type { Timing } from '@sparse-attention/compare'
import { type ConfiguredMethod, recall, SparseAttentionError } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { aShape, minferenceBlockSparse, minferenceVerticalSlash, xattention } from '@sparse-attention/prefill'
import { type PlanSize, planPairs, randomBlocks, randomColumns } from './plans.js'
import { NotMeasured } from './row.js'
import { bands, planningAlone } from './rows/planning.js'
import { measurePlan } from './rows/plans.js'
import { type Recorder, recordAttention } from './timing.js'
import type { Workbench } from './workbench.js'

/** A point of a chart. */
export interface SeriesPoint {
  /** Words with slashes, such as `series/length/xattention/16384`: what `--rows` matches. */
  readonly name: string
  readonly chart: 'length' | 'density'
  readonly series: string
  /** Tokens, or the density asked for. */
  readonly x: number
  readonly status: 'measured' | 'wrong result' | 'not available'
  readonly reason: string | null
  readonly checkedError: number | null
  readonly density: number | null
  readonly recall: number | null
  /** Planning and attending. */
  readonly total: Timing | null
  readonly planning: Timing | null
  /** Of dense: of plans in turn with it, of methods once for a length. */
  readonly dense: Timing | null
  /** That measuring took, compiling and checking included. */
  readonly seconds: number
}

type Found = Omit<SeriesPoint, 'name' | 'chart' | 'series' | 'x' | 'status' | 'reason' | 'seconds'>

/** How to measure one point. */
export interface SeriesEntry extends Pick<SeriesPoint, 'name' | 'chart' | 'series' | 'x'> {
  measure(bench: Workbench): Promise<Found>
}

export const seriesLengths: readonly number[] = [1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072]
const densities = [0.02, 0.05, 0.1, 0.25, 0.5, 1]

/** Methods with their budgets for the length, causal, on prompts with planted bands. */
const methods: readonly [name: string, method: (length: number) => ConfiguredMethod][] = [
  ['dense', () => dense()],
  ['xattention', (length) => xattention({ stride: 16, blockSize: length < 8192 ? 64 : 128 })],
  ['minference-vertical-slash', (length) => minferenceVerticalSlash(minferenceVerticalSlash.definition.scaled(length))],
  ['minference-block-sparse', (length) => minferenceBlockSparse(minferenceBlockSparse.definition.scaled(length))],
  ['a-shape', (length) => aShape(aShape.definition.scaled(length))],
]

/** Of a length, timed once for all methods. */
const denseTimes = new WeakMap<Workbench, Map<number, Timing>>()

async function denseTime(bench: Workbench, length: number, record: Recorder): Promise<Timing> {
  const known = denseTimes.get(bench) ?? new Map<number, Timing>()
  denseTimes.set(bench, known)
  const timing = known.get(length) ?? (await bench.time({ dense: record })).dense
  known.set(length, timing)
  return timing
}

async function measureLength(
  bench: Workbench,
  method: (length: number) => ConfiguredMethod,
  length: number,
): Promise<Found> {
  const shape = bench.shape(length)
  const configured = method(shape.keyLength)
  const tensors = await bench.tensors(shape, bands)
  const baseline = await bench.baseline(shape, true, bands)
  const denseMs = await denseTime(bench, shape.keyLength, baseline.record)
  if (configured.method.id === dense.definition.id)
    return { checkedError: baseline.error, density: 1, recall: 1, total: denseMs, planning: null, dense: denseMs }
  using attention = await bench.use(configured, shape, true)
  using planning = await bench.use(planningAlone(configured), shape, true)
  const { error, plan, host } = await bench.checked(attention, tensors)
  plan.dispose()
  const lse = await bench.runtime.read(tensors.lse)
  const times = await bench.time({
    total: recordAttention(attention, tensors),
    planning: recordAttention(planning, tensors),
  })
  const { kept, visible } = host ? planPairs(host) : { kept: 1, visible: 1 }
  const found = { checkedError: error, density: kept / visible, recall: recall(lse, baseline.lse) }
  return { ...found, ...times, dense: denseMs }
}

const handmade: readonly [
  name: string,
  make: (size: PlanSize, density: number, seed: number) => Parameters<typeof planPairs>[0],
][] = [
  ['blocks of 128', (size, density, seed) => randomBlocks(size, 128, density, seed)],
  ['blocks of 64', (size, density, seed) => randomBlocks(size, 64, density, seed)],
  ['single columns', (size, density, seed) => randomColumns(size, 128, density, seed)],
]

export const series: readonly SeriesEntry[] = [
  ...methods.flatMap(([name, method]) =>
    seriesLengths.map(
      (length): SeriesEntry => ({
        ...{ name: `series/length/${name}/${length}`, chart: 'length', series: name, x: length },
        measure: (bench) => measureLength(bench, method, length),
      }),
    ),
  ),
  ...handmade.flatMap(([name, make]) =>
    densities.map(
      (density): SeriesEntry => ({
        ...{ name: `series/density/${name}/${density}`, chart: 'density', series: name, x: density },
        async measure(bench) {
          const {
            times,
            checkedError,
            density: found,
          } = await measurePlan(bench, false, (size, seed) => make(size, density, seed))
          return {
            ...{ checkedError, density: found, recall: null },
            ...{ total: times.sparse!, planning: null, dense: times.dense! },
          }
        },
      }),
    ),
  ),
]

/** Measures one point, whatever comes of it. */
export async function measurePoint(bench: Workbench, entry: SeriesEntry): Promise<SeriesPoint> {
  const { measure, ...named } = entry
  const start = performance.now()
  const seconds = () => (performance.now() - start) / 1000
  try {
    return { ...named, status: 'measured', reason: null, ...(await measure(bench)), seconds: seconds() }
  } catch (error) {
    const { status, reason, checkedError } = excuse(bench, error)
    const nothing = { density: null, recall: null, total: null, planning: null, dense: null }
    return { ...named, status, reason, checkedError, ...nothing, seconds: seconds() }
  }
}

/** Why something has no figure; rethrows what must end the run. */
export function excuse(
  bench: Workbench,
  error: unknown,
): { readonly status: NotMeasured['status']; readonly reason: string; readonly checkedError: number | null } {
  bench.signal.throwIfAborted()
  bench.runtime.assertUsable()
  if (error instanceof NotMeasured)
    return { status: error.status, reason: error.message, checkedError: error.checkedError }
  if (SparseAttentionError.is(error)) return { status: 'not available', reason: error.message, checkedError: null }
  throw error
}
