import {
  type BenchReport,
  type BenchResult,
  type DenseAnswer,
  describeAdapter,
  GpuTimer,
  makeInput,
  measureCeilings,
  measureMethod,
  samplesOf,
} from '@sparse-attention/compare'
import type { Runtime } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import type { Progress } from '../shell/use-job.js'
import { configured, withBudgets } from './methods.js'
import type { BenchRequest } from './requests.js'

/** What `sparse-attention bench --scaled` does, on this page's device, without onnxruntime-web beside it. */
export async function bench(
  runtime: Runtime,
  { kind, seed, shape, dtype, causal, lengths, methods, samples }: BenchRequest,
  signal: AbortSignal,
  report: (progress: Progress) => void,
): Promise<BenchReport> {
  using timer = await GpuTimer.for(runtime)
  report({ label: 'Measuring what the device can do' })
  const ceilings = await measureCeilings(runtime, timer, signal)
  const total = lengths.length * (methods.length + 1) * samplesOf('method', samples, timer !== undefined)
  let done = 0
  const results: BenchResult[] = []
  for (const length of lengths) {
    const input = makeInput(kind, { ...shape, queryLength: length, keyLength: length }, dtype, seed)
    const atLength = [dense(), ...methods.map(({ id, options }) => configured(withBudgets(id, options, length)))]
    let exact: DenseAnswer | undefined
    for (const method of atLength) {
      signal.throwIfAborted()
      const onSample = (contender: string): void =>
        report({ label: `${contender} at ${length}`, done: Math.min(++done, total), total })
      const scale = 1 / Math.sqrt(shape.headDim)
      const options = { causal, scale, seed, samples, signal, onSample }
      const { result, answer } = await measureMethod(runtime, method, input, exact, timer, options)
      exact ??= answer
      results.push(result)
    }
  }
  return {
    shape: { ...shape, dtype, causal },
    input: { kind, seed },
    grids: null,
    scaled: true,
    samples,
    gpuTimes: timer !== undefined,
    ceilings,
    results,
    adapter: describeAdapter(runtime),
    versions: { browser: runtime.implementation },
    date: new Date().toISOString().slice(0, 10),
    markdown: null,
  }
}
