import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type DType, SparseAttentionError } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { samplingShift, type VideoSize, videoGrid, videoSizes, videoTokens } from '@sparse-attention/models'
import { loadVideoModel } from '@sparse-attention/models/node'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import { Command, Option } from 'commander'
import { resultJson } from '../bench/result-json.js'
import { describeRun } from '../bench/run-report.js'
import { commandLine } from '../bench/versions.js'
import { defaultCases, parseCase } from '../bench/video/cases.js'
import { type FrontierResults, measureFrontier } from '../bench/video/measure-frontier.js'
import { mergeParts, partName } from '../bench/video/parts.js'
import { frontierPictures } from '../bench/video/pictures.js'
import { formatFrontier, formatResult, type VideoFrontierReport } from '../bench/video/report.js'
import { type SeedRange, seedRange, seedsOf } from '../bench/video/seeds.js'
import { VideoMaker } from '../demo/video/video-maker.js'
import { loadSharp } from '../figures/plan-picture.js'
import { checkWritable, writeAtomically } from '../files.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'
import { number } from './number.js'

interface BenchVideoOptions {
  readonly case?: readonly string[]
  readonly size?: VideoSize
  readonly steps?: number
  readonly guidance?: number
  readonly seeds?: SeedRange
  readonly dtype?: DType
  readonly looksEvery?: number
  /** --no-times, --no-capture. */
  readonly times: boolean
  readonly capture: boolean
  readonly out?: string
  readonly merge?: boolean
  readonly model?: string
  readonly json?: boolean
}

/** What a CPU does in a few minutes; elsewhere steps are the model's own. */
const defaults = {
  software: { size: 'tiny', steps: 2, seeds: { first: 1, last: 1 }, dtype: 'f32' },
  hardware: { size: 'full', steps: undefined, seeds: { first: 1, last: 20 }, dtype: 'f16' },
} as const

export function benchVideoCommand(output: (json: boolean) => Output): Command {
  return new Command('video')
    .description('make the same videos with each method: PSNR and SSIM to dense against density, and time')
    .option(
      '--case <id:name=value,...>',
      'a method with options, and +step-cache=threshold; again for more (default: all for diffusion)',
      collect,
    )
    .addOption(
      new Option('--size <size>', 'of the videos (default: full, on a software adapter tiny)').choices(videoSizes),
    )
    .option('--steps <n>', "of denoising (default: the model's own, on a software adapter 2)", integer(1))
    .option('--guidance <g>', "towards the scenes; 1: none (default: the model's own)", number)
    .option(
      '--seeds <n|first-last>',
      'videos of each method, or a part of them (default: 20, on a software adapter 1)',
      seedRange,
    )
    .option('--looks-every <n>', 'one of so many videos is looked into for its density, and not timed', integer(1))
    .option('--no-times', 'time nothing: other processes are at work')
    .option('--no-capture', "do not record onnxruntime-web's dispatches")
    .addOption(
      new Option('--dtype <dtype>', 'of attention (default: f16, on a software adapter f32)').choices(['f16', 'f32']),
    )
    .option(
      '--out <folder>',
      'write the results of the seeds there, after each of them, and video.webp and video-frames.webp of the first',
    )
    .option('--merge', 'make no videos: put together what was written to --out, as video.json')
    .addOption(new Option('--model <folder>', 'of another checkpoint').hideHelp())
    .option('--json', 'print one JSON object')
    .action(async (options: BenchVideoOptions, command: Command) => {
      const out = output(options.json === true)
      const run = options.merge ? mergeVideo : benchVideo
      const report = await run(options, out, commandLine(command))
      out.result(report, formatFrontier(report))
    })
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value]
}

async function mergeVideo(
  { out: folder }: BenchVideoOptions,
  _: Output,
  command: string,
): Promise<VideoFrontierReport> {
  if (folder === undefined) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: 'There is nothing to merge: --out is missing.',
      fix: 'Name the folder that was --out of the runs to merge.',
      where: 'out',
    })
  }
  const path = join(folder, 'video.json')
  await checkWritable(path)
  const report = await mergeParts(folder, command)
  await writeAtomically(path, Buffer.from(resultJson(report)))
  return report
}

async function benchVideo(options: BenchVideoOptions, out: Output, command: string): Promise<VideoFrontierReport> {
  const { signal } = out
  const { times, capture } = options
  using runtime = await createRuntime({ onNotice: out.log })
  const usual = defaults[runtime.software ? 'software' : 'hardware']
  const range = options.seeds ?? usual.seeds
  const seeds = seedsOf(range)
  const pictures = range.first === 1
  const file = (name: string) => join(options.out!, name)
  const part = partName(range, times)
  if (options.out !== undefined) {
    await mkdir(options.out, { recursive: true }).catch(() => {}) // whatever is wrong, the check below says it
    const names = [part, ...(pictures ? ['video.webp', 'video-frames.webp'] : [])]
    for (const name of names) await checkWritable(file(name))
    if (pictures) await loadSharp() // found missing now, not when the work is done
  }
  const source = await loadVideoModel({ signal, ...(options.model !== undefined && { from: options.model }) })
  const { sampling } = source.config
  const { steps = usual.steps ?? sampling.steps, guidance = sampling.guidance, dtype = usual.dtype } = options
  const grid = videoGrid(options.size ?? usual.size, source.config)
  const tokens = videoTokens(grid)
  const cases = await Promise.all((options.case ?? defaultCases()).map((each) => parseCase(each, tokens)))
  const looksEvery = options.looksEvery ?? Math.min(5, Math.max(2, seeds.length))
  await using maker = await VideoMaker.load(runtime, await loadOrt(runtime), source, { dtype, signal })
  const reportOf = ({ seeds, results }: FrontierResults): VideoFrontierReport => ({
    ...describeRun(runtime, command),
    model: 'drifters-7m',
    grid,
    tokens,
    steps,
    guidance,
    shift: samplingShift(source.config, grid),
    dtype,
    seeds,
    looksEvery,
    captured: capture ? maker.captured : { used: false, reason: '--no-capture' },
    results,
  })
  const onSeed = async (found: FrontierResults, seed: number) => {
    if (options.out !== undefined) await writeAtomically(file(part), Buffer.from(resultJson(reportOf(found))))
    if (seed === range.last) return
    out.log(`seeds ${range.first} to ${seed}:`)
    for (const result of found.results) out.log(`  ${formatResult(result)}`)
  }
  const bar = out.progress((cases.length + 1) * (seeds.length + 1))
  try {
    const measured = { maker, cases, grid, steps, guidance, seeds, looksEvery, times, capture, signal }
    const found = await measureFrontier({ ...measured, onVideo: bar.step, onSeed })
    if (options.out !== undefined && pictures) {
      const { animation, frames } = await frontierPictures(reportOf(found), found.videos, range.first)
      signal.throwIfAborted()
      await writeAtomically(file('video.webp'), animation)
      await writeAtomically(file('video-frames.webp'), frames)
    }
    return reportOf(found)
  } finally {
    bar.stop()
  }
}
