import { type BenchReport, type MethodMeasurement, measureMethods, median } from '@sparse-attention/compare'
import { type AttentionShape, createRuntime, type DType, headPairs, type Runtime } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { type LanguageModelConfig, parseLanguageModelConfig } from '@sparse-attention/models'
import configUrl from '@sparse-attention/models/checkpoints/bookworm-9m/config.json?url'
import { describeDevice } from '../shell/device.js'
import { type CallContext, serve } from '../shell/serve.js'
import type { Progress } from '../shell/use-job.js'
import { bench } from './bench.js'
import { InputSource } from './input-source.js'
import { configured } from './methods.js'
import type { BenchRequest, ComparedMethod, CompareRequest, CompareResult, FileInput, Opened } from './requests.js'

let opened: { readonly runtime: Runtime; readonly inputs: InputSource; readonly model: LanguageModelConfig } | undefined

async function open(): Promise<NonNullable<typeof opened>> {
  if (opened) return opened
  const runtime = await createRuntime({ tuning: 'cached', onNotice: () => {} })
  const model = parseLanguageModelConfig(await (await fetch(new URL(configUrl, self.location.href))).text())
  opened = { runtime, model, inputs: new InputSource(runtime) }
  return opened
}

const api = serve({
  async open(): Promise<Opened> {
    const { runtime, model } = await open()
    const { layers, maxLength, headDim } = model
    return { device: describeDevice(runtime), model: { layers, maxLength, headDim } }
  },

  /** What is in a file, or what is wrong with it. */
  async inspect(
    input: FileInput,
    { signal, report }: CallContext<Progress>,
  ): Promise<AttentionShape & { readonly dtype: DType }> {
    const { q, k, v, ...found } = await (await open()).inputs.get(input, { signal, report })
    return found
  },

  /** Runs dense and the methods on the same tensors. */
  async compare(
    { input, methods, runs }: CompareRequest,
    { signal, report, checkpoint }: CallContext<Progress>,
  ): Promise<CompareResult> {
    const { runtime, inputs } = await open()
    const tensors = await inputs.get(input, { signal, report })
    const causal = input.from === 'captured' ? true : input.causal
    const grid = input.from === 'captured' ? undefined : input.grid
    const total = (methods.length + 1) * (runs + 1)
    report({ label: 'Compiling', done: 0, total })
    let done = 0
    const measured = await measureMethods(runtime, [dense(), ...methods.map(configured)], tensors, {
      ...{ causal, runs, signal },
      ...(grid && { grid }),
      onRun(method) {
        done++
        if (done === 1) checkpoint(runtime.device)
        report({ label: `Running ${method}`, done, total })
      },
    })
    const { q, k, v, ...shape } = tensors
    const [exact, ...others] = measured
    return {
      device: describeDevice(runtime),
      shape: { ...shape, causal },
      denseMs: median(exact!.runsMs),
      methods: others.map(compared),
    }
  },

  /** Times the methods beside dense at several lengths. */
  async bench(request: BenchRequest, { signal, report }: CallContext<Progress>): Promise<BenchReport> {
    return bench((await open()).runtime, request, signal, report)
  },
})
export type Api = typeof api

function compared(measured: MethodMeasurement): ComparedMethod {
  const { method, path, plan, keptPairs, visiblePairs, recall, relativeError, runsMs } = measured
  return {
    id: method.method.id,
    options: method.options,
    path,
    density: visiblePairs === 0 ? 1 : keptPairs / visiblePairs,
    headDensities: headPairs(plan).map(({ kept, visible }) => (visible === 0 ? 1 : kept / visible)),
    recall,
    relativeError,
    medianMs: median(runsMs),
    plan,
  }
}
