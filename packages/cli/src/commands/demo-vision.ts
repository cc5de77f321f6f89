import { basename, join } from 'node:path'
import { type AdapterReport, describeAdapter, findMethod, mean, nameAdapter, registry } from '@sparse-attention/compare'
import { type OptionValue, SparseAttentionError, type Tier } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import {
  type ImageClassifierConfig,
  type LikelyClass,
  likeliestClasses,
  loadImageClassifier,
  type Picture,
  packageFolder,
  preprocess,
  seenPart,
} from '@sparse-attention/models/node'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import { Command, Option } from 'commander'
import { type Classification, classify, classifySteps, methodFor } from '../demo/vision/classify.js'
import { decodePictureFile } from '../demo/vision/decode.js'
import { visionPicture } from '../figures/vision-picture.js'
import { checkWritable, writeAtomically } from '../files.js'
import { formatOptions, parseOptions } from '../option-values.js'
import { versionsOf } from '../package-info.js'
import { formatTable } from '../table.js'
import type { Output } from '../terminal.js'

/** What `demo vision --json` prints. */
export interface DemoVisionReport {
  readonly model: string
  readonly photo: { readonly file: string; readonly width: number; readonly height: number }
  /** Dense first. */
  readonly runs: readonly [VisionRun, VisionRun]
  /** Largest difference between a logit of the two runs. */
  readonly logitDifference: number
  /** Of the chosen regions, in one attention of each stage. */
  readonly routes: readonly Route[]
  readonly coverage: readonly LayerCoverage[]
  /** Runs whose median is `modelMs`; 0: one that is also looked into, less the time of looking. */
  readonly timedRuns: number
  readonly tier: Tier
  readonly adapter: AdapterReport
  readonly versions: Readonly<Record<string, string>>
  readonly png: string
}

export interface VisionRun {
  readonly method: string
  /** The likeliest five, first first. */
  readonly classes: readonly LikelyClass[]
  /** The whole model, logits on the CPU at the end. */
  readonly modelMs: number
  /** Planning and attention, summed over layers. */
  readonly attentionMs: number
  readonly layers: readonly {
    readonly layer: number
    readonly grid: readonly [height: number, width: number]
    readonly method: string
    readonly options: Readonly<Record<string, OptionValue>>
    readonly path: 'sparse' | 'dense'
    readonly density: number
    readonly recall: number
    readonly attentionMs: number
  }[]
}

export interface Route {
  readonly layer: number
  readonly query: RegionName
  /** Regions of which at least one pair with the query's is computed, and the share of the pairs that is. */
  readonly attended: readonly { readonly region: RegionName; readonly share: number }[]
  /** Share of exact attention's mass in what is computed, regions counted by their share. */
  readonly mass: number
}

/** Row and column, from 0 at the upper left. */
export type RegionName = readonly [row: number, column: number]

export interface LayerCoverage {
  readonly layer: number
  /** Softmax mass in the first k = 1 … R regions, mean over the regions that ask: in the order of the routing, and at best. */
  readonly routed: readonly number[]
  readonly best: readonly number[]
}

interface DemoVisionOptions {
  readonly method: string
  readonly option?: readonly string[]
  readonly region: readonly RegionName[]
  readonly png: string
  readonly json?: boolean
}

const modelName = 'kestrel-3m'
/** One that no training saw. */
const defaultPhoto = 'butterfly.jpg'
/** Regions a side by which the picture shows what is attended to: those of the model's routing. */
const side = 5
const defaultRegions: readonly RegionName[] = [
  [2, 2],
  [1, 1],
  [3, 3],
]
/** Letters and colours of the picture. */
const mostRegions = 6
/** A model that runs for seconds is run no more often than it must. */
const timedRuns = { software: 0, hardware: 15 }

export function demoVisionCommand(output: (json: boolean) => Output): Command {
  const ids = registry.filter(({ definition }) => definition.phase === 'vision').map(({ definition }) => definition.id)
  return new Command('vision')
    .description('classify a photo with dense and with routed attention, and show which regions attend to which')
    .argument('[photo]', 'JPEG, PNG or WebP (default: a photo that comes with the model)')
    .addOption(new Option('--method <id>', 'what to compare with dense').choices(ids).default('bilevel-routing'))
    .option('--option <name=value...>', 'options of the method, over those that the model was trained with')
    .addOption(
      new Option('--region <row,column...>', 'regions whose routes to show, each 0 to 4')
        .argParser(regions)
        .default(defaultRegions, defaultRegions.join(' ')),
    )
    .option('--png <file>', 'picture of routes and covered mass', 'sparse-attention-vision.png')
    .option('--json', 'print one JSON object')
    .action(async (photo: string | undefined, options: DemoVisionOptions) => {
      const out = output(options.json === true)
      const report = await demoVision(photo, options, out)
      out.result(report, formatReport(report))
    })
}

async function demoVision(
  file: string | undefined,
  options: DemoVisionOptions,
  out: Output,
): Promise<DemoVisionReport> {
  const { signal } = out
  const factory = findMethod(options.method)
  const given = await parseOptions(factory.definition, options.option ?? [])
  await checkWritable(options.png)
  const path = file ?? join(packageFolder(), 'photos', defaultPhoto)
  const photo = await decodePictureFile(path)
  const classifier = await loadImageClassifier({ signal })
  const { config } = classifier
  const pixels = preprocess(photo, config)

  using runtime = await createRuntime({ onNotice: out.log })
  const runs = timedRuns[runtime.software ? 'software' : 'hardware']
  const bar = out.progress(classifySteps(runs))
  let results: readonly [Classification, Classification]
  try {
    results = await classify({
      ...{ runtime, classifier, pixels, side, timedRuns: runs, signal, onStep: bar.step },
      ort: await loadOrt(runtime),
      method: (stage) => methodFor(factory, stage, given),
    })
  } finally {
    bar.stop()
  }
  const [exact, ours] = results
  const routed = shownLayers(config).map((layer) => ours.layers[layer]!)
  const chosen = options.region.map(([row, column]) => row * side + column)
  const report: DemoVisionReport = {
    model: modelName,
    photo: { file: path, width: photo.width, height: photo.height },
    runs: [describeRun(exact, 'dense', config), describeRun(ours, options.method, config)],
    logitDifference: exact.logits.reduce((most, logit, i) => Math.max(most, Math.abs(logit - ours.logits[i]!)), 0),
    routes: routed.flatMap((layer) => chosen.map((query) => routeOf(layer, query))),
    coverage: ours.layers.map(({ layer, coverage }) => ({ layer, ...coverage })),
    timedRuns: runs,
    tier: runtime.tier,
    adapter: describeAdapter(runtime),
    versions: versionsOf('webgpu', 'onnxruntime-web', 'sharp'),
    png: options.png,
  }
  signal.throwIfAborted()
  await writeAtomically(options.png, await draw(report, photo, config, routed, chosen))
  return report
}

/** The last attention of each stage that routes. */
function shownLayers({ stages }: ImageClassifierConfig): number[] {
  let end = 0
  return stages.flatMap(({ blocks, routing }) => {
    end += blocks
    return routing ? [end - 1] : []
  })
}

function describeRun(
  { logits, modelMs, attentionMs, layers }: Classification,
  method: string,
  config: ImageClassifierConfig,
): VisionRun {
  return {
    method,
    classes: likeliestClasses(config, logits),
    modelMs,
    attentionMs,
    layers: layers.map(({ layer, stage, method, options, path, density, recall, attentionMs }) => ({
      ...{ layer, grid: stage.grid, method, options, path, density, recall, attentionMs },
    })),
  }
}

function routeOf({ layer, kept, mass }: Classification['layers'][number], query: number): Route {
  const count = side * side
  const name = (region: number): RegionName => [Math.floor(region / side), region % side]
  const shares = Array.from(kept.subarray(query * count, (query + 1) * count), (share, region) => ({ share, region }))
  return {
    layer,
    query: name(query),
    attended: shares
      .filter(({ share }) => share > 0)
      // Sums of as many shares as there are pairs.
      .map(({ share, region }) => ({ region: name(region), share: Math.min(1, Math.round(share * 1e6) / 1e6) })),
    mass: Math.min(
      1,
      shares.reduce((sum, { share, region }) => sum + share * mass[query * count + region]!, 0),
    ),
  }
}

function draw(
  { runs, photo: { file } }: DemoVisionReport,
  photo: Picture,
  config: ImageClassifierConfig,
  routed: Classification['layers'],
  chosen: readonly number[],
): Promise<Buffer> {
  const [, ours] = runs
  const count = side * side
  const best = ours.classes[0]!
  return visionPicture({
    title: `${basename(file)}: ${best.name} (${percent(best.probability)})`,
    subtitle: `What ${modelName} reads with ${ours.method}: a lettered region attends to what is in full colour, and not to what is faded.`,
    photo,
    seen: seenPart(photo, config),
    side,
    queries: chosen,
    layers: routed.map(({ layer, stage: { grid }, density, recall, path, kept, coverage, options }) => ({
      label: `Layer ${layer}, ${grid.join(' × ')} tokens`,
      detail: `${formatOptions(options)}: ${percent(density)} of the pairs, ${percent(recall)} of dense attention`,
      kept,
      ...coverage,
      ...(path === 'sparse' && { point: { regions: density * count, mass: recall } }),
    })),
  })
}

function formatReport(report: DemoVisionReport): string {
  const { runs, photo, adapter } = report
  const [exact, ours] = runs
  const row = (label: string, cell: (run: VisionRun) => string, last = '') => [label, cell(exact), cell(ours), last]
  const ratio = (of: 'modelMs' | 'attentionMs') => `${(exact[of] / ours[of]).toFixed(2)}× as fast`
  const sparse = (run: VisionRun) => run.layers.filter((_, i) => ours.layers[i]!.path === 'sparse')
  const share = (of: 'density' | 'recall') => (run: VisionRun) => {
    const layers = sparse(run)
    return layers.length > 0 ? mean(layers.map((layer) => layer[of])).toFixed(3) : '1.000'
  }
  const named = ({ name, probability }: LikelyClass) => `${name} ${percent(probability)}`
  const table = formatTable(
    [
      row('', (run) => run.method),
      row('class', (run) => named(run.classes[0]!)),
      ...[1, 2].map((i) => row('', (run) => named(run.classes[i]!))),
      row('density', share('density')),
      row('recall', share('recall')),
      row('model', (run) => time(run.modelMs), ratio('modelMs')),
      row('attention', (run) => time(run.attentionMs), ratio('attentionMs')),
    ],
    new Set([1, 2]),
  )
  const timed =
    report.timedRuns > 0
      ? `the median of ${report.timedRuns} runs after one uncounted, attention in a run of its own`
      : 'one run, the time to look at plans and recall taken off; compiled before'
  const routes = report.routes.map(({ layer, query, attended, mass }) => {
    const names = attended.map(({ region }) => `(${region.join(', ')})`).join(' ')
    return `Layer ${layer}, region (${query.join(', ')}) → ${names}: ${percent(mass)} of its attention`
  })
  return [
    `${report.model} looks at ${photo.file} (${photo.width} × ${photo.height}). Largest difference of a logit: ${report.logitDifference.toFixed(3)}`,
    '',
    table,
    '',
    ...routes,
    '',
    `Density and recall: mean of the ${sparse(ours).length} attentions that are not dense. Timed: ${timed}; the picture is prepared before.`,
    `Tier ${report.tier} on ${nameAdapter(adapter)}; ${Object.entries(report.versions)
      .map((entry) => entry.join(' '))
      .join(', ')}`,
    `Picture: ${report.png}`,
  ].join('\n')
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`
}

function time(milliseconds: number): string {
  return milliseconds < 10 ? `${milliseconds.toFixed(2)} ms` : `${milliseconds.toFixed(0)} ms`
}

/** Collects repeated values; commander hands over what it has so far. */
function regions(value: string, previous: readonly RegionName[] | undefined): readonly RegionName[] {
  const found = /^(\d+),(\d+)$/.exec(value)?.slice(1).map(Number) ?? []
  const [row = side, column = side] = found
  if (row >= side || column >= side) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `The region is '${value}'.`,
      fix: `Write row,column with numbers from 0 to ${side - 1}, such as 2,2 for the middle.`,
      where: 'region',
    })
  }
  // The default is one array, so it is replaced, not extended.
  const before = previous === defaultRegions || previous === undefined ? [] : previous
  if (before.length < mostRegions) return [...before, [row, column]]
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `More than ${mostRegions} regions are given.`,
    fix: `Show at most ${mostRegions} at a time.`,
    where: 'region',
  })
}
