import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { DType } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { samplingShift, type VideoSize, videoGrid, videoSizes, videoTokens } from '@sparse-attention/models'
import { loadVideoModel } from '@sparse-attention/models/node'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import { Command, Option } from 'commander'
import { describeAdapter } from '../adapter.js'
import { benchVersions, commandLine } from '../bench/versions.js'
import { defaultCases, parseCase } from '../bench/video/cases.js'
import { type FrontierResults, measureFrontier } from '../bench/video/measure-frontier.js'
import { frontierPictures } from '../bench/video/pictures.js'
import { formatFrontier, type VideoFrontierReport } from '../bench/video/report.js'
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
  readonly seeds?: number
  readonly dtype?: DType
  readonly out?: string
  readonly model?: string
  readonly json?: boolean
}

/** What a CPU does in a few minutes; elsewhere steps are the model's own. */
const defaults = {
  software: { size: 'tiny', steps: 2, seeds: 1, dtype: 'f32' },
  hardware: { size: 'full', steps: undefined, seeds: 20, dtype: 'f16' },
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
    .option('--seeds <n>', 'videos of each method (default: 20, on a software adapter 1)', integer(1))
    .addOption(
      new Option('--dtype <dtype>', 'of attention (default: f16, on a software adapter f32)').choices(['f16', 'f32']),
    )
    .option('--out <folder>', 'write video.json, video-frames.webp and video.webp there, the first after each seed')
    .addOption(new Option('--model <folder>', 'of another checkpoint').hideHelp())
    .option('--json', 'print one JSON object')
    .action(async (options: BenchVideoOptions, command: Command) => {
      const out = output(options.json === true)
      const report = await benchVideo(options, out, commandLine(command))
      out.result(report, formatFrontier(report))
    })
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value]
}

async function benchVideo(options: BenchVideoOptions, out: Output, command: string): Promise<VideoFrontierReport> {
  const { signal } = out
  const file = (name: string) => join(options.out!, name)
  if (options.out !== undefined) {
    await mkdir(options.out, { recursive: true }).catch(() => {}) // whatever is wrong, the check below says it
    for (const name of ['video.json', 'video.webp', 'video-frames.webp']) await checkWritable(file(name))
    await loadSharp() // found missing now, not when the work is done
  }
  using runtime = await createRuntime({ onNotice: out.log })
  const usual = defaults[runtime.software ? 'software' : 'hardware']
  const source = await loadVideoModel({ signal, ...(options.model !== undefined && { from: options.model }) })
  const { sampling } = source.config
  const {
    steps = usual.steps ?? sampling.steps,
    guidance = sampling.guidance,
    seeds = usual.seeds,
    dtype = usual.dtype,
  } = options
  const grid = videoGrid(options.size ?? usual.size, source.config)
  const tokens = videoTokens(grid)
  const cases = await Promise.all((options.case ?? defaultCases()).map((each) => parseCase(each, tokens)))
  const looksEvery = Math.min(5, Math.max(2, seeds))
  const about = {
    date: new Date().toISOString().slice(0, 10),
    command,
    model: 'drifters-7m',
    grid,
    tokens,
    steps,
    guidance,
    shift: samplingShift(source.config, grid),
    dtype,
    looksEvery,
    tier: runtime.tier,
    adapter: describeAdapter(runtime),
    versions: benchVersions(),
  }
  const reportOf = ({ seeds, results }: FrontierResults): VideoFrontierReport => ({ ...about, seeds, results })
  const write = async (found: FrontierResults) => {
    if (options.out === undefined) return
    await writeAtomically(file('video.json'), Buffer.from(`${JSON.stringify(reportOf(found), null, 1)}\n`))
  }
  await using maker = await VideoMaker.load(runtime, await loadOrt(runtime), source, { dtype, signal })
  const bar = out.progress((cases.length + 1) * (seeds + 1))
  try {
    const measured = { maker, cases, grid, steps, guidance, seeds, looksEvery, signal }
    const found = await measureFrontier({ ...measured, onVideo: bar.step, onSeed: write })
    if (options.out !== undefined) {
      const { animation, frames } = await frontierPictures(reportOf(found), found.videos)
      signal.throwIfAborted()
      await writeAtomically(file('video.webp'), animation)
      await writeAtomically(file('video-frames.webp'), frames)
    }
    return reportOf(found)
  } finally {
    bar.stop()
  }
}
