import { type BenchReport, type BenchResult, nameAdapter, type Times, tokensOf } from '@sparse-attention/compare'
import { formatOptions } from '../option-values.js'
import { formatTable } from '../table.js'
import { formatMethod } from './format.js'
import { listVersions, markdownTable } from './markdown.js'

const columns = [
  'length',
  'contender',
  'tier',
  'density',
  'recall',
  'error',
  'wall ms (p10–p90)',
  'GPU ms (p10–p90)',
  'planning ms',
  'attend ms',
  'against dense',
  'f32 ops',
  'bytes',
]

/** With grids. */
const memoryColumns = ['scratch MB', 'gathered MB']

function headOf({ grids }: BenchReport): string[] {
  return grids ? [...columns, ...memoryColumns] : columns
}

/** Columns of numbers. */
const right: ReadonlySet<number> = new Set([0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])

export function formatReport(report: BenchReport): string {
  const rows = report.results.map((result) => cells(report, result))
  const options = optionLines(report)
  return [
    describe(report),
    '',
    formatTable([headOf(report), ...rows], right),
    '',
    ...reasons(report),
    ...options,
    ...notes(report),
    ...(report.markdown === null ? [] : [`Written: ${report.markdown}`]),
  ].join('\n')
}

/** The same as a page of Markdown, with what a figure must be named with. */
export function formatMarkdown(report: BenchReport, command: string): string {
  return [
    `# ${describe(report)}`,
    '',
    `${nameAdapter(report.adapter)}, ${report.date}; ${listVersions(report.versions)}. \`${command}\``,
    '',
    markdownTable(
      headOf(report),
      report.results.map((result) => cells(report, result)),
      new Set([1, 2]),
    ),
    '',
    ...[...reasons(report), ...optionLines(report), ...notes(report)].map((line) => `${line}\n`),
  ].join('\n')
}

function describe({ shape, input, samples }: BenchReport): string {
  const { batch, queryHeads, kvHeads, headDim, dtype, causal } = shape
  const heads = queryHeads === kvHeads ? `${queryHeads}` : `${queryHeads} over ${kvHeads}`
  return (
    `Attention, batch ${batch}, heads ${heads}, head_dim ${headDim}, ${dtype}${causal ? ', causal' : ''}; ` +
    `${input.kind} inputs, seed ${input.seed}; ${samples} samples`
  )
}

function cells({ results, ceilings, grids }: BenchReport, result: BenchResult): string[] {
  const { length, tier, status, density, recall, relativeError, total, attend, planningMs, memory } = result
  const times = total ? [range(total.wall), total.gpu ? range(total.gpu) : '–'] : [status, '–']
  const attendMs = attend && best(attend)
  const share = (amount: number | null, ceiling: number) =>
    amount === null || attendMs === null ? '–' : `${((100 * amount) / (attendMs / 1000) / ceiling).toFixed(1)} %`
  return [
    grids?.find((grid) => tokensOf(grid) === length)?.join('×') ?? String(length),
    nameOf(results, result),
    tier ?? '–',
    density === null ? '–' : density.toFixed(3),
    recall === null ? '–' : recall.toFixed(4),
    relativeError === null ? '–' : relativeError === 0 ? '0' : relativeError.toExponential(1),
    ...times,
    planningMs === null ? '–' : planningMs.toFixed(2),
    attendMs === null ? '–' : attendMs.toFixed(2),
    speedup(results, result),
    share(result.operations, ceilings.f32OperationsPerSecond),
    share(result.bytes, ceilings.bytesPerSecond),
    ...(grids ? [megabytes(memory?.scratch), megabytes(memory?.gathered)] : []),
  ]
}

function megabytes(bytes: number | undefined): string {
  return bytes === undefined ? '–' : (bytes / 1e6).toFixed(1)
}

/** With its options where a method is there more than once. */
function nameOf(results: readonly BenchResult[], { contender, length, tier, options }: BenchResult): string {
  const same = results.filter(
    (other) => other.contender === contender && other.length === length && other.tier === tier,
  )
  return same.length > 1 ? formatMethod(contender, options) : contender
}

function range({ medianMs, p10Ms, p90Ms }: Times['wall']): string {
  return `${medianMs.toFixed(2)} (${p10Ms.toFixed(2)}–${p90Ms.toFixed(2)})`
}

/** The GPU's clock where there is one. */
function best({ gpu, wall }: Times): number {
  return (gpu ?? wall).medianMs
}

/** Against dense of the same tier; onnxruntime-web, whose GPU time is not known, by wall time against the first dense. */
function speedup(results: readonly BenchResult[], { length, tier, total }: BenchResult): string {
  const dense = results.find(
    (other) => other.contender === 'dense' && other.length === length && (tier === null || other.tier === tier),
  )
  if (!dense?.total || !total) return '–'
  const ratio =
    total.gpu && dense.total.gpu
      ? dense.total.gpu.medianMs / total.gpu.medianMs
      : dense.total.wall.medianMs / total.wall.medianMs
  return `${ratio.toFixed(2)}×`
}

function reasons({ results }: BenchReport): string[] {
  return results.flatMap(({ length, contender, tier, status, reason }) =>
    reason === null ? [] : [`${contender}${tier ? ` (${tier})` : ''} at ${length}: ${status}, ${reason}.`],
  )
}

function optionLines({ results, scaled }: BenchReport): string[] {
  const origin = scaled ? ' (its budgets for this length, where not given)' : ''
  const lines = results
    .filter(({ tier, options }) => tier !== null && Object.keys(options).length > 0)
    .map(({ contender, length, options }) => `${contender} at ${length}: ${formatOptions(options)}${origin}`)
  return [...new Set(lines)]
}

function notes({ ceilings, gpuTimes, adapter, grids }: BenchReport): string[] {
  const { bytesPerSecond, f32OperationsPerSecond } = ceilings
  return [
    'Density: pairs computed of those visible. Recall: softmax mass kept. Error: of the output, relative to dense.',
    `Wall: from the call until the GPU is idle. GPU: ${gpuTimes ? 'on its own clock' : 'this device has no timestamps'}. Planning: the whole less attending over a given plan.`,
    ...(grids
      ? [
          `Scratch: what the call allocated besides tensors and plan. Gathered: keys and values of each group of queries that shares a selection, copied one after another; not done here.`,
        ]
      : []),
    `f32 ops, bytes: the least that attending must compute and move, as shares of ${(f32OperationsPerSecond / 1e9).toFixed(0)} GFLOPS of f32 and ${(bytesPerSecond / 1e9).toFixed(1)} GB/s, measured in this run.`,
    `On ${nameAdapter(adapter)}`,
  ]
}
