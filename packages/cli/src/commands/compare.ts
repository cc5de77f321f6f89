import {
  type AdapterReport,
  describeAdapter,
  describeShape,
  formatShape,
  type MethodMeasurement,
  measureMethods,
  median,
  nameAdapter,
  type ShapeReport,
} from '@sparse-attention/compare'
import { type OptionValue, type Tier, tiers } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { Command, Option } from 'commander'
import { chooseMethods, configure } from '../compare/choose-methods.js'
import { loadSharp, planPicture } from '../figures/plan-picture.js'
import { checkWritable, writeAtomically } from '../files.js'
import { formatOptions } from '../option-values.js'
import { readAttentionInput } from '../safetensors/index.js'
import { formatTable } from '../table.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'
import { tokenGrid } from './token-grid.js'

/** What `compare --json` prints. */
export interface CompareReport {
  readonly shape: ShapeReport
  /** Options that were not given are each method's budgets for the key length, not its defaults. */
  readonly scaled: boolean
  /** Runs of each method that were timed. */
  readonly timedRuns: number
  /** Dense, then the others in the order asked for. */
  readonly methods: readonly MethodComparison[]
  readonly tier: Tier
  readonly adapter: AdapterReport
  /** The picture of the plans, where asked for. */
  readonly png: string | null
}

export interface MethodComparison {
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  /** What ran. */
  readonly path: 'sparse' | 'dense'
  /** Kept query–key pairs ÷ visible ones, over batch and heads. */
  readonly density: number
  readonly keptPairs: number
  readonly visiblePairs: number
  /** Softmax mass that the plan keeps, mean over the rows that see a key. */
  readonly recall: number
  /** ‖out − dense out‖₂ ÷ ‖dense out‖₂ */
  readonly relativeError: number
  /** Of `runsMs`. */
  readonly medianMs: number
  readonly minMs: number
  readonly maxMs: number
  /** Planning and attention: each from the call, the GPU idle, to the end of the GPU's work. */
  readonly runsMs: readonly number[]
  /** Dense's median ÷ this one's: below 1 it is slower than dense. */
  readonly speedup: number
}

interface CompareOptions {
  readonly input: string
  readonly methods: string
  readonly option?: readonly string[]
  readonly causal?: boolean
  readonly scaled?: boolean
  readonly grid?: readonly number[]
  readonly repeat: number
  readonly tier: Tier | 'auto'
  readonly png?: string
  readonly json?: boolean
}

export function compareCommand(output: (json: boolean) => Output): Command {
  return new Command('compare')
    .description('run methods and dense on the same tensors: density, recall, error and time of each')
    .requiredOption('--input <file>', 'safetensors file with q, k and v, F32 or F16')
    .requiredOption('--methods <a,b,...>', 'methods, as listed by `methods`; dense is always the first')
    .option('--option <method.name=value...>', 'options of a method; @file.json for tables [layer][head]')
    .option('--causal', 'query i sees keys j ≤ i + Lkv − Lq')
    .option(
      '--grid <n,n[,n]>',
      'where tokens lie: height,width of an image, or frames,height,width of a video',
      tokenGrid,
    )
    .option('--scaled', "where no option is given, each method's budgets for this length instead of its defaults")
    .option('--repeat <n>', 'timed runs of each method, after one that is not counted', integer(1), 5)
    .addOption(new Option('--tier <tier>', 'kernels to use').choices(['auto', ...tiers]).default('auto'))
    .option('--png <file>', 'picture of what each head computes, a row of panels a method')
    .option('--json', 'print one JSON object')
    .action(async (options: CompareOptions) => {
      const out = output(options.json === true)
      const report = await compare(options, out)
      out.result(report, formatReport(report))
    })
}

async function compare(options: CompareOptions, out: Output): Promise<CompareReport> {
  const { causal = false, scaled = false, repeat, png, grid } = options
  const { signal } = out
  const chosen = await chooseMethods(options.methods, options.option ?? [])
  if (png !== undefined) {
    await checkWritable(png)
    await loadSharp() // found missing now, not when the work is done
  }
  const input = await readAttentionInput(options.input)
  const methods = chosen.map((method) => configure(method, scaled ? input.keyLength : undefined))
  signal.throwIfAborted()

  using runtime = await createRuntime({ tier: options.tier, onNotice: out.log })
  const bar = out.progress(methods.length * (repeat + 1))
  let measured: MethodMeasurement[]
  try {
    measured = await measureMethods(runtime, methods, input, {
      ...{ causal, runs: repeat, signal, onRun: bar.step },
      ...(grid && { grid }),
    })
  } finally {
    bar.stop()
  }
  const shape = describeShape(input, causal)
  signal.throwIfAborted()
  if (png !== undefined) await writeAtomically(png, await drawPlans(measured, shape))
  const denseMs = median(measured[0]!.runsMs)
  return {
    shape,
    scaled,
    timedRuns: repeat,
    methods: measured.map((measurement) => describeMethod(measurement, denseMs)),
    tier: runtime.tier,
    adapter: describeAdapter(runtime),
    png: png ?? null,
  }
}

function describeMethod(measurement: MethodMeasurement, denseMs: number): MethodComparison {
  const { method, path, keptPairs, visiblePairs, recall, relativeError, runsMs } = measurement
  const medianMs = median(runsMs)
  return {
    method: method.method.id,
    options: method.options,
    path,
    // A query that sees no key has nothing to skip.
    density: visiblePairs === 0 ? 1 : keptPairs / visiblePairs,
    keptPairs,
    visiblePairs,
    recall,
    relativeError,
    medianMs,
    minMs: Math.min(...runsMs),
    maxMs: Math.max(...runsMs),
    runsMs,
    speedup: denseMs / medianMs,
  }
}

function drawPlans(measured: readonly MethodMeasurement[], shape: ShapeReport): Promise<Buffer> {
  return planPicture({
    title: 'What each head computes',
    subtitle: formatShape(shape),
    rows: measured.map(({ method, plan }) => ({ label: method.method.id, plan })),
  })
}

function formatReport(report: CompareReport): string {
  const { shape, scaled, timedRuns, methods, tier, adapter, png } = report
  const ms = (value: number) => value.toFixed(2)
  const table = formatTable(
    [
      ['method', 'path', 'density', 'recall', 'error', 'median ms', 'min–max ms', 'against dense'],
      ...methods.map((of) => [
        of.method,
        of.path,
        of.density.toFixed(4),
        of.recall.toFixed(4),
        of.relativeError === 0 ? '0' : of.relativeError.toExponential(2),
        ms(of.medianMs),
        `${ms(of.minMs)}–${ms(of.maxMs)}`,
        `${of.speedup.toFixed(2)}× as fast`,
      ]),
    ],
    new Set([2, 3, 4, 5, 6, 7]),
  )
  const withOptions = methods.filter(({ options }) => Object.keys(options).length > 0)
  const origin = scaled ? ' (its budgets for this length, where not given)' : ''
  return [
    formatShape(shape),
    '',
    table,
    '',
    ...withOptions.map(({ method, options }) => `${method}: ${formatOptions(options)}${origin}`),
    'Density: pairs computed of those visible. Recall: softmax mass kept. Error: of the output, relative to dense.',
    `Timed: planning and attention, until the GPU is done; ${timedRuns} ${timedRuns === 1 ? 'run' : 'runs'} after one that is not counted; compiled and uploaded before.`,
    `Tier ${tier} on ${nameAdapter(adapter)}`,
    ...(png === null ? [] : [`Picture: ${png}`]),
  ].join('\n')
}
