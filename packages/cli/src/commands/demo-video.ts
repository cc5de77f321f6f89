import { join } from 'node:path'
import { type AdapterReport, describeAdapter, findMethod, nameAdapter } from '@sparse-attention/compare'
import { type ConfiguredMethod, type DType, type OptionValue, relativeError, type Tier } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import {
  describeScene,
  parseScene,
  psnr,
  randomScene,
  samplingShift,
  ssim,
  type VideoGrid,
  type VideoSize,
  videoGrid,
  videoSizes,
  videoTokens,
} from '@sparse-attention/models'
import { loadVideoModel } from '@sparse-attention/models/node'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import { Command, Option } from 'commander'
import { videoMethods } from '../demo/video/methods.js'
import { type MadeVideo, VideoMaker, type VideoRequest } from '../demo/video/video-maker.js'
import { loadSharp } from '../figures/plan-picture.js'
import { videoAnimation, videoStrip } from '../figures/video-picture.js'
import { checkWritable, writeAtomically } from '../files.js'
import { formatOptions, parseOptions } from '../option-values.js'
import { versionsOf } from '../package-info.js'
import { formatTable } from '../table.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'
import { number } from './number.js'

/** What `demo video --json` prints. */
export interface DemoVideoReport {
  readonly model: string
  readonly scene: string
  readonly grid: VideoGrid
  readonly tokens: number
  readonly steps: number
  readonly guidance: number
  readonly shift: number
  readonly seed: number
  /** In which attention computes. */
  readonly dtype: DType
  /** Dense first. */
  readonly runs: readonly [DemoVideoRun, DemoVideoRun]
  readonly tier: Tier
  readonly adapter: AdapterReport
  readonly versions: Readonly<Record<string, string>>
  /** The videos side by side, animated. */
  readonly webp: string
  /** Their frames, one below the other. */
  readonly png: string
}

export interface DemoVideoRun {
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  /** Kept query–key pairs ÷ visible ones, over all steps. */
  readonly density: number
  /** Planning and attention, summed over layers, passes and steps. */
  readonly attentionMs: number
  readonly totalMs: number
  /** How often the model ran: a step cache leaves some out. */
  readonly evaluations: number
  /** Of the video, to the dense one: 100 and 1 for itself. */
  readonly psnr: number
  readonly ssim: number
  readonly steps: readonly {
    readonly density: number
    readonly attentionMs: number
    /** Of the latents after the step, to the dense ones: ‖x − dense x‖₂ ÷ ‖dense x‖₂. */
    readonly error: number
  }[]
}

interface DemoVideoOptions {
  readonly method: string
  readonly option?: readonly string[]
  readonly size?: VideoSize
  readonly steps?: number
  readonly guidance?: number
  readonly scene?: string
  readonly seed: number
  readonly dtype?: DType
  readonly stepCache?: number
  readonly out: string
  readonly model?: string
  readonly json?: boolean
}

const modelName = 'drifters-7m'
/** What a CPU does in about a minute; elsewhere steps are the model's own. */
const onSoftware = { size: 'small', steps: 8 } as const

export function demoVideoCommand(output: (json: boolean) => Output): Command {
  return new Command('video')
    .description('make a video with dense and with sparse attention from the same noise, side by side')
    .addOption(
      new Option('--method <id>', 'what to compare with dense').choices(videoMethods()).default('lite-attention'),
    )
    .option('--option <name=value...>', "options of the method, over its budgets for this length (see docs: 'scaled')")
    .addOption(
      new Option('--size <size>', 'of the video (default: full, on a software adapter small)').choices(videoSizes),
    )
    .option('--steps <n>', "of denoising (default: the model's own, on a software adapter 8)", integer(1))
    .option('--guidance <g>', "towards the scene; 1: none (default: the model's own)", number)
    .option('--scene <words>', "colour, shape and direction, as in 'red circle down left' (default: by the seed)")
    .option('--seed <n>', 'chooses the noise, and the scene where none is given', integer(0), 1)
    .addOption(
      new Option('--dtype <dtype>', 'of attention (default: f16, on a software adapter f32)').choices(['f16', 'f32']),
    )
    .option(
      '--step-cache <threshold>',
      'also reuse evaluations up to this change of the timestep, with the method',
      number,
    )
    .option('--out <folder>', 'for sparse-attention-video.webp and .png', '.')
    .addOption(new Option('--model <folder>', 'of another checkpoint').hideHelp())
    .option('--json', 'print one JSON object')
    .action(async (options: DemoVideoOptions) => {
      const out = output(options.json === true)
      const report = await demoVideo(options, out)
      out.result(report, formatReport(report))
    })
}

async function demoVideo(options: DemoVideoOptions, out: Output): Promise<DemoVideoReport> {
  const { signal } = out
  const { seed } = options
  const factory = findMethod(options.method)
  const given = await parseOptions(factory.definition, options.option ?? [])
  const scene = options.scene === undefined ? randomScene(seed) : parseScene(options.scene)
  const files = {
    webp: join(options.out, 'sparse-attention-video.webp'),
    png: join(options.out, 'sparse-attention-video.png'),
  }
  await checkWritable(files.webp)
  await checkWritable(files.png)
  await loadSharp() // found missing now, not when the work is done

  using runtime = await createRuntime({ onNotice: out.log })
  const { software } = runtime
  const source = await loadVideoModel({ signal, ...(options.model !== undefined && { from: options.model }) })
  const grid = videoGrid(options.size ?? (software ? onSoftware.size : 'full'), source.config)
  const tokens = videoTokens(grid)
  const { sampling } = source.config
  const { steps = software ? onSoftware.steps : sampling.steps, guidance = sampling.guidance } = options
  const dtype = options.dtype ?? (software ? 'f32' : 'f16')
  const methods: readonly ConfiguredMethod[] = [dense(), factory({ ...factory.definition.scaled(tokens), ...given })]
  const ort = await loadOrt(runtime)

  await using maker = await VideoMaker.load(runtime, ort, source, { dtype, signal })
  const bar = out.progress(methods.length * (software ? steps : 2 * steps))
  const made: MadeVideo[] = []
  try {
    for (const [i, method] of methods.entries()) {
      const cached = i > 0 && options.stepCache !== undefined && { stepCache: options.stepCache }
      const request: VideoRequest = { method, grid, scene, steps, guidance, seed, ...cached }
      const onStep = (step: number) => bar.step(`${method.method.id}: step ${step + 1}`)
      // Compiles what is missing. On a CPU a step is long, and little of it compiling: a video of 32 tokens has to do.
      const warmUp = software ? ([2, 4, 4] as const) : grid
      await maker.make({ ...request, grid: warmUp, steps: 1 }, { signal, looks: false })
      const timed = software ? undefined : await maker.make(request, { signal, looks: false, onStep })
      const looked = await maker.make(request, { signal, looks: true, onStep })
      made.push(timed ? { ...looked, totalMs: timed.totalMs } : looked)
    }
  } finally {
    bar.stop()
  }
  const [exact, ours] = made as [MadeVideo, MadeVideo]
  const runs = [describeRun(methods[0]!, exact, exact), describeRun(methods[1]!, ours, exact)] as const
  const report: DemoVideoReport = {
    model: modelName,
    scene: describeScene(scene),
    grid,
    tokens,
    steps,
    guidance,
    shift: samplingShift(source.config, grid),
    seed,
    dtype,
    runs,
    tier: runtime.tier,
    adapter: describeAdapter(runtime),
    versions: versionsOf('webgpu', 'onnxruntime-web', 'sharp'),
    ...files,
  }
  const picture = {
    title: `${report.scene}, ${modelName}`,
    subtitle: `${count(tokens)} tokens, ${steps} steps, seed ${seed}: the same noise`,
    panels: runs.map((run, i) => ({ label: run.method, detail: caption(run, i), video: made[i]!.video })),
  }
  const [webp, png] = [await videoAnimation(picture), await videoStrip(picture)]
  signal.throwIfAborted()
  await writeAtomically(files.webp, webp)
  await writeAtomically(files.png, png)
  return report
}

function describeRun(method: ConfiguredMethod, made: MadeVideo, exact: MadeVideo): DemoVideoRun {
  const { steps } = made
  return {
    method: method.method.id,
    options: method.options,
    // All steps have the same number of pairs.
    density: steps.reduce((sum, step) => sum + step.density, 0) / steps.length,
    attentionMs: steps.reduce((sum, step) => sum + step.attentionMs, 0),
    totalMs: made.totalMs,
    evaluations: made.evaluations,
    psnr: psnr(made.video, exact.video),
    ssim: ssim(made.video, exact.video),
    steps: steps.map((step, i) => ({ ...step, error: relativeError(made.latents[i]!, exact.latents[i]!) })),
  }
}

function caption({ density, psnr, totalMs }: DemoVideoRun, index: number): string {
  return index === 0 ? time(totalMs) : `${time(totalMs)}, density ${density.toFixed(2)}, ${psnr.toFixed(1)} dB`
}

function formatReport(report: DemoVideoReport): string {
  const { runs, adapter } = report
  const [exact, ours] = runs
  const row = (label: string, cell: (run: DemoVideoRun) => string, last = '') => [label, cell(exact), cell(ours), last]
  const ratio = (of: 'totalMs' | 'attentionMs') => `${(exact[of] / ours[of]).toFixed(2)}× as fast`
  const table = formatTable(
    [
      row('', (run) => run.method),
      row('density', (run) => run.density.toFixed(3)),
      row('attention', (run) => time(run.attentionMs), ratio('attentionMs')),
      row('evaluations', (run) => String(run.evaluations)),
      row('whole video', (run) => time(run.totalMs), ratio('totalMs')),
      ['PSNR', '', `${ours.psnr.toFixed(2)} dB`, ''],
      ['SSIM', '', ours.ssim.toFixed(4), ''],
    ],
    new Set([1, 2]),
  )
  return [
    `${report.model} makes '${report.scene}' of ${count(report.tokens)} tokens (${report.grid.join('×')}) in ${report.steps} steps, guidance ${report.guidance}, shift ${report.shift.toFixed(2)}, seed ${report.seed}, attention in ${report.dtype}.`,
    '',
    table,
    '',
    `Density by step: ${ours.steps.map(({ density }) => density.toFixed(2)).join(' ')}`,
    `Error of the latents by step: ${ours.steps.map(({ error }) => error.toFixed(3)).join(' ')}`,
    '',
    `${ours.method}: ${formatOptions(ours.options)} (its budgets for this length, where not given)`,
    'PSNR and SSIM: to the dense video from the same noise. Timed after a warm-up; the whole video without looking inside where it runs on a GPU.',
    `Tier ${report.tier} on ${nameAdapter(adapter)}; ${Object.entries(report.versions)
      .map((entry) => entry.join(' '))
      .join(', ')}`,
    `Videos: ${report.webp}, frames: ${report.png}`,
  ].join('\n')
}

function count(value: number): string {
  return value.toLocaleString('en-US')
}

function time(milliseconds: number): string {
  return milliseconds < 10_000 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1000).toFixed(1)} s`
}
