import {
  type BenchReport,
  type BenchResult,
  type DenseAnswer,
  describeAdapter,
  GpuTimer,
  type InputKind,
  inputKinds,
  type MeasureOptions,
  makeInput,
  measureCeilings,
  measureMethod,
  measurePeer,
  registry,
  samplesOf,
  tokensOf,
} from '@sparse-attention/compare'
import {
  type AttentionShape,
  type ConfiguredMethod,
  type DType,
  type Runtime,
  SparseAttentionError,
  type Tier,
  tiers,
} from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import { Command, Option } from 'commander'
import { collect, parseMethodCase } from '../bench/method-case.js'
import { formatMarkdown, formatReport } from '../bench/report.js'
import { benchVersions, commandLine } from '../bench/versions.js'
import { chooseMethods, configure } from '../compare/choose-methods.js'
import { checkWritable, writeAtomically } from '../files.js'
import type { Output } from '../terminal.js'
import { benchDecodeCommand } from './bench-decode.js'
import { benchDiffusionCommand } from './bench-diffusion.js'
import { benchGenerateCommand } from './bench-generate.js'
import { benchTableCommand } from './bench-table.js'
import { benchVideoCommand } from './bench-video.js'
import { integer } from './integer.js'
import { integerList } from './integer-list.js'
import { tokenGrids } from './token-grid.js'

interface BenchOptions {
  readonly lengths?: readonly number[]
  readonly grid?: readonly (readonly number[])[]
  readonly methods?: string
  readonly case?: readonly string[]
  readonly option?: readonly string[]
  readonly scaled?: boolean
  readonly tiers: string
  readonly batch: number
  readonly heads?: number
  readonly kvHeads?: number
  readonly headDim: number
  readonly dtype: DType
  readonly causal?: boolean
  readonly input?: InputKind
  readonly seed: number
  readonly samples: number
  readonly peer: boolean
  readonly markdown?: string
  readonly json?: boolean
}

export function benchCommand(output: (json: boolean) => Output): Command {
  return new Command('bench')
    .addCommand(benchDecodeCommand(output))
    .addCommand(benchDiffusionCommand(output))
    .addCommand(benchGenerateCommand(output))
    .addCommand(benchTableCommand(output))
    .addCommand(benchVideoCommand(output))
    .enablePositionalOptions()
    .description('time methods on made-up tensors, beside dense and the attention of onnxruntime-web')
    .option('--lengths <n,n,...>', 'tokens of queries and keys (default: 1024,4096; on the CPU 128,256)', integerList)
    .option(
      '--grid <HxW,FxHxW,...>',
      'instead of lengths: images or videos of so many tokens, for methods that ask where tokens lie',
      tokenGrids,
    )
    .option('--methods <a,b,...>', 'methods of `methods`; dense is always there (default: xattention)')
    .option(
      '--case <id:name=value,...>',
      'instead of methods: one with options, the rest of which are its budgets for the length; again for more',
      collect,
    )
    .option('--option <method.name=value...>', 'options of a method')
    .option('--scaled', "where options are not given, take each method's budgets for the length, not its defaults")
    .option('--tiers <a,b,...>', 'kernels to use: auto, all, or a list', 'auto')
    .option('--batch <n>', 'batch', integer(1), 1)
    .option('--heads <n>', 'query heads (default: 8; on the CPU 2)', integer(1))
    .option('--kv-heads <n>', 'KV heads (default: as many as query heads)', integer(1))
    .option('--head-dim <n>', 'size of a head', integer(1), 64)
    .addOption(new Option('--dtype <dtype>', 'of q, k, v and output').choices(['f32', 'f16']).default('f32'))
    .option('--causal', 'query i sees keys j ≤ i')
    .addOption(
      new Option('--input <kind>', 'what q and k hold (default: stripes, of grids patches)').choices(inputKinds),
    )
    .option('--seed <n>', 'of the inputs', integer(0), 1)
    .option('--samples <n>', 'samples that count, of each contender', integer(1), 15)
    .option('--no-peer', 'leave onnxruntime-web out')
    .option('--markdown <file>', 'also write the table as Markdown')
    .option('--json', 'print one JSON object')
    .allowExcessArguments()
    .action(async (options: BenchOptions, command: Command) => {
      // Behind a verb that does something itself, commander takes an unknown one for an argument.
      if (command.args.length > 0) command.error(`error: unknown command '${command.args[0]}'`)
      const out = output(options.json === true)
      const report = await bench(options, out, commandLine(command))
      out.result(report, formatReport(report))
    })
}

async function bench(options: BenchOptions, out: Output, command: string): Promise<BenchReport> {
  const { signal } = out
  const grids = checkGrids(options)
  const methodsFor = await methodsOf(options)
  if (options.markdown !== undefined) await checkWritable(options.markdown)
  using first = await createRuntime({ onNotice: out.log })
  const runtimes: Runtime[] = []
  try {
    for (const tier of chooseTiers(options.tiers, first)) {
      runtimes.push(await runtimeLike(first, tier))
    }
    const lengths = grids?.map(tokensOf) ?? options.lengths ?? (first.software ? [128, 256] : [1024, 4096])
    const queryHeads = options.heads ?? (first.software ? 2 : 8)
    const { batch, headDim, dtype, seed, samples, causal = false, kvHeads = queryHeads } = options
    // What a method does not take is found out before anything runs.
    const configured = await methodsFor(lengths[0]!)
    for (const runtime of runtimes) {
      for (const method of configured) {
        signal.throwIfAborted()
        const attention = await runtime.use(method, { queryHeads, kvHeads, headDim, dtype, causal })
        attention.dispose()
      }
    }
    using timer = await GpuTimer.for(first)
    const ceilings = await measureCeilings(first, timer, signal)
    const perLength =
      runtimes.length * configured.length * samplesOf('method', samples, timer !== undefined) +
      (options.peer ? samplesOf('peer', samples, false) : 0)
    const bar = out.progress(lengths.length * perLength)
    const results: BenchResult[] = []
    try {
      for (const [i, length] of lengths.entries()) {
        const shape = { batch, queryHeads, kvHeads, queryLength: length, keyLength: length, headDim }
        const onSample = (contender: string) => bar.step(`${contender} at ${length}`)
        const scale = 1 / Math.sqrt(headDim)
        const measuring = { causal, scale, seed, samples, signal, onSample, ...(grids && { grid: grids[i]! }) }
        results.push(...(await measureLength(runtimes, timer, await methodsFor(length), shape, options, measuring)))
      }
    } finally {
      bar.stop()
    }
    const report: BenchReport = {
      shape: { batch, queryHeads, kvHeads, headDim, dtype, causal },
      input: { kind: inputOf(options), seed },
      grids: grids ?? null,
      scaled: options.scaled === true,
      samples,
      gpuTimes: timer !== undefined,
      ceilings,
      results,
      adapter: describeAdapter(first),
      versions: benchVersions(),
      date: new Date().toISOString().slice(0, 10),
      markdown: options.markdown ?? null,
    }
    signal.throwIfAborted()
    if (options.markdown !== undefined) {
      await writeAtomically(options.markdown, new TextEncoder().encode(formatMarkdown(report, command)))
    }
    return report
  } finally {
    for (const runtime of runtimes) runtime.dispose()
  }
}

/** Everyone on the same inputs: dense of each tier, then the methods of that tier, and onnxruntime-web at the end. */
async function measureLength(
  runtimes: readonly Runtime[],
  timer: GpuTimer | undefined,
  methods: readonly ConfiguredMethod[],
  shape: AttentionShape,
  given: BenchOptions,
  options: MeasureOptions,
): Promise<BenchResult[]> {
  const { dtype, seed, peer } = given
  const input = makeInput(inputOf(given), shape, dtype, seed, options.grid)
  const results: BenchResult[] = []
  let exact: DenseAnswer | undefined
  for (const runtime of runtimes) {
    for (const method of methods) {
      options.signal.throwIfAborted()
      // With a runtime of its own, what a method allocates can be told.
      using own = options.grid ? await runtimeLike(runtime) : undefined
      const measured = await measureMethod(own ?? runtime, method, input, exact, timer, options)
      exact ??= measured.answer
      results.push(measured.result)
    }
  }
  if (peer) {
    const { openPeer } = await import('../bench/peer.js')
    const runtime = runtimes[0]!
    results.push(
      await measurePeer(runtime, (tensors) => openPeer(runtime, input, tensors, options), input, exact!, options),
    )
  }
  return results
}

/** Another runtime on the same device. */
function runtimeLike({ device, adapterInfo, software, tier: same }: Runtime, tier: Tier = same): Promise<Runtime> {
  return createRuntime({ device, software, tier, ...(adapterInfo && { adapterInfo }) })
}

function inputOf({ input, grid }: BenchOptions): InputKind {
  return input ?? (grid ? 'patches' : 'stripes')
}

/**
 * @throws INVALID_ARGUMENT for grids beside lengths, or of equal numbers of tokens
 */
function checkGrids({ grid, lengths }: BenchOptions): BenchOptions['grid'] {
  if (grid === undefined) return undefined
  const tokens = grid.map(tokensOf)
  if (lengths === undefined && new Set(tokens).size === tokens.length) return grid
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: lengths ? 'Both --grid and --lengths are given.' : 'Two grids have equally many tokens.',
    fix: 'Give one of the two, or run once for each grid.',
    where: 'grid',
  })
}

/** Dense and what was asked for, at a length. */
async function methodsOf(options: BenchOptions): Promise<(length: number) => Promise<ConfiguredMethod[]>> {
  const { case: cases, methods, option, scaled } = options
  if (cases === undefined) {
    const chosen = await chooseMethods(methods ?? 'xattention', option ?? [])
    return async (length) => chosen.map((each) => configure(each, scaled ? length : undefined))
  }
  if (methods !== undefined || option !== undefined) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: 'Both --case and --methods or --option are given.',
      fix: 'Write options into the cases, as in --case bilevel-routing:regions=7,topK=4.',
      where: 'case',
    })
  }
  const known = { known: registry.map(({ definition }) => definition.id), refusal: 'does not run here' }
  return async (length) => [dense(), ...(await Promise.all(cases.map((each) => parseMethodCase(each, length, known))))]
}

/**
 * @throws INVALID_ARGUMENT for what is no tier; what `createRuntime` finds wrong with a tier, it says itself
 */
function chooseTiers(list: string, { tierReports, tier }: Runtime): Tier[] {
  if (list === 'auto') return [tier]
  if (list === 'all') return tierReports.filter((r) => r.offered && r.implemented).map((r) => r.tier)
  const wanted = [...new Set(list.split(',').map((name) => name.trim()))]
  const unknown = wanted.find((name) => !(tiers as readonly string[]).includes(name))
  if (unknown === undefined) return wanted as Tier[]
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `There is no tier '${unknown}'.`,
    fix: `Use auto, all, or some of ${tiers.join(',')}.`,
    where: 'tiers',
  })
}
