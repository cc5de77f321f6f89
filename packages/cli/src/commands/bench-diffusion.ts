import { performance } from 'node:perf_hooks'
import { GpuTimer, tokensOf } from '@sparse-attention/compare'
import { type Runtime, SparseAttentionError } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import { Command, Option } from 'commander'
import { type DenseSteps, measureSteps, notAvailable, type StepsResult } from '../bench/diffusion/measure-steps.js'
import {
  type DiffusionReport,
  formatDiffusion,
  formatDiffusionMarkdown,
  formatSteps,
  type MeasuredShape,
} from '../bench/diffusion/report.js'
import { type VideoShape, videoShapes } from '../bench/diffusion/shapes.js'
import { VideoTensors } from '../bench/diffusion/video-tensors.js'
import { collect, parseMethodCase } from '../bench/method-case.js'
import { ResultFolder } from '../bench/result-folder.js'
import { describeRun } from '../bench/run-report.js'
import { commandLine } from '../bench/versions.js'
import { videoMethods } from '../demo/video/methods.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'

interface BenchDiffusionOptions {
  readonly shape?: readonly string[]
  readonly heads?: number
  readonly case?: readonly string[]
  readonly steps: number
  readonly seed: number
  readonly samples?: number
  readonly out?: string
  readonly json?: boolean
}

/** Of all heads of a long video at once, copies in another order take gigabytes. */
const scratchBudgetBytes = 16 * 2 ** 30

const usualCases = [
  'lite-attention',
  'lite-attention:threshold=-4',
  'sparse-videogen:density=0.3',
  'sparse-videogen-2',
  'sparse-videogen-2:minKeepRatio=0.28',
]

export function benchDiffusionCommand(output: (json: boolean) => Output): Command {
  return new Command('diffusion')
    .description("time a layer's attention over the steps of a video, at the shapes of video models")
    .addOption(
      new Option(
        '--shape <name...>',
        'of the models (default: wan-480p and hunyuan-720p, on a software adapter tiny)',
      ).choices(videoShapes.map(({ name }) => name)),
    )
    .option('--heads <n>', "at a time (default: the model's, or as many as memory allows)", integer(1))
    .option('--case <id:name=value,...>', 'a method with options; again for more (default: all for diffusion)', collect)
    .option('--steps <n>', 'of the same video', integer(2), 4)
    .option('--seed <n>', 'of the tokens', integer(0), 1)
    .option('--samples <n>', 'samples of attending alone (default: 3, on a software adapter 1)', integer(1))
    .option('--out <folder>', 'write diffusion.json and diffusion.md there, again after each case')
    .option('--json', 'print one JSON object')
    .action(async (options: BenchDiffusionOptions, command: Command) => {
      const out = output(options.json === true)
      const report = await benchDiffusion(options, out, commandLine(command))
      out.result(report, formatDiffusion(report))
    })
}

async function benchDiffusion(options: BenchDiffusionOptions, out: Output, command: string): Promise<DiffusionReport> {
  const { signal } = out
  const start = performance.now()
  const { steps, seed, case: cases = usualCases } = options
  const known = { known: videoMethods(), refusal: 'does not run in a video model' }
  for (const each of cases) await parseMethodCase(each, 32768, known) // found wrong now, not after the first shape
  const folder = await ResultFolder.open(options.out, 'diffusion')
  using runtime = await createRuntime({ onNotice: out.log, scratchBudgetBytes })
  using timer = await GpuTimer.for(runtime)
  const { shape: names = runtime.software ? ['tiny'] : ['wan-480p', 'hunyuan-720p'] } = options
  const samples = options.samples ?? (runtime.software ? 1 : 3)
  const shapes: MeasuredShape[] = []
  const results: StepsResult[] = []
  const reportOf = (): DiffusionReport => ({
    ...describeRun(runtime, command),
    ...{ dtype: 'f16', shapes, steps, seed, samples, gpuTimes: timer !== undefined, results },
    seconds: (performance.now() - start) / 1000,
  })
  const found = async (result: StepsResult) => {
    results.push(result)
    out.log(formatSteps([result]))
    await folder.write(reportOf(), formatDiffusionMarkdown(reportOf()))
  }
  for (const shape of videoShapes.filter(({ name }) => names.includes(name))) {
    const { name, grid, headDim, heads: modelHeads } = shape
    const tokens = tokensOf(grid)
    const measuring = { runtime, timer, shapeName: name, grid, steps, seed, samples, signal }
    const methods = await Promise.all(cases.map((each) => parseMethodCase(each, tokens, known)))
    const first = await firstThatFits(runtime, shape, options.heads ?? modelHeads, seed, (tensors) =>
      measureSteps(tensors, dense(), undefined, measuring),
    )
    using tensors = first.tensors
    shapes.push({ name, grid, tokens, modelHeads, heads: tensors.shape.queryHeads, headDim })
    await found(first.result.result)
    for (const method of methods) {
      signal.throwIfAborted()
      const measured = measureSteps(tensors, method, first.result, measuring)
      await found(
        await measured.then(
          ({ result }) => result,
          (error: unknown) => notAvailable(measuring, method, error),
        ),
      )
    }
  }
  return reportOf()
}

/** Halves the heads until what is to be measured has room. */
async function firstThatFits(
  runtime: Runtime,
  { grid, headDim }: VideoShape,
  heads: number,
  seed: number,
  measure: (tensors: VideoTensors) => Promise<DenseSteps>,
): Promise<{ readonly tensors: VideoTensors; readonly result: DenseSteps }> {
  const length = tokensOf(grid)
  for (let count = heads; ; count = Math.floor(count / 2)) {
    let tensors: VideoTensors | undefined
    try {
      const lengths = { queryLength: length, keyLength: length, headDim }
      tensors = new VideoTensors(runtime, { batch: 1, queryHeads: count, kvHeads: count, ...lengths }, seed)
      return { tensors, result: await measure(tensors) }
    } catch (error) {
      tensors?.[Symbol.dispose]()
      const full = SparseAttentionError.is(error) && ['LIMIT_EXCEEDED', 'OUT_OF_MEMORY'].includes(error.code)
      if (!full || count === 1) throw error
    }
  }
}
