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
import { Command, Option } from 'commander'
import { describeAdapter } from '../adapter.js'
import { measureCeilings } from '../bench/ceilings.js'
import { GpuTimer } from '../bench/gpu-timer.js'
import { type InputKind, inputKinds, makeInput } from '../bench/input.js'
import {
  type BenchResult,
  type DenseAnswer,
  type MeasureOptions,
  measureMethod,
  measurePeer,
  samplesOf,
} from '../bench/measure.js'
import { type BenchReport, formatMarkdown, formatReport } from '../bench/report.js'
import { benchVersions, commandLine } from '../bench/versions.js'
import { chooseMethods, configure } from '../compare/choose-methods.js'
import { checkWritable, writeAtomically } from '../files.js'
import type { Output } from '../terminal.js'
import { benchDecodeCommand } from './bench-decode.js'
import { benchTableCommand } from './bench-table.js'
import { benchVideoCommand } from './bench-video.js'
import { integer } from './integer.js'
import { integerList } from './integer-list.js'

interface BenchOptions {
  readonly lengths?: readonly number[]
  readonly methods: string
  readonly option?: readonly string[]
  readonly scaled?: boolean
  readonly tiers: string
  readonly batch: number
  readonly heads?: number
  readonly kvHeads?: number
  readonly headDim: number
  readonly dtype: DType
  readonly causal?: boolean
  readonly input: InputKind
  readonly seed: number
  readonly samples: number
  readonly peer: boolean
  readonly markdown?: string
  readonly json?: boolean
}

export function benchCommand(output: (json: boolean) => Output): Command {
  return new Command('bench')
    .addCommand(benchDecodeCommand(output))
    .addCommand(benchTableCommand(output))
    .addCommand(benchVideoCommand(output))
    .enablePositionalOptions()
    .description('time methods on made-up tensors, beside dense and the attention of onnxruntime-web')
    .option('--lengths <n,n,...>', 'tokens of queries and keys (default: 1024,4096; on the CPU 128,256)', integerList)
    .option('--methods <a,b,...>', 'methods of `methods`; dense is always there', 'xattention')
    .option('--option <method.name=value...>', 'options of a method')
    .option('--scaled', "where options are not given, take each method's budgets for the length, not its defaults")
    .option('--tiers <a,b,...>', 'kernels to use: auto, all, or a list', 'auto')
    .option('--batch <n>', 'batch', integer(1), 1)
    .option('--heads <n>', 'query heads (default: 8; on the CPU 2)', integer(1))
    .option('--kv-heads <n>', 'KV heads (default: as many as query heads)', integer(1))
    .option('--head-dim <n>', 'size of a head', integer(1), 64)
    .addOption(new Option('--dtype <dtype>', 'of q, k, v and output').choices(['f32', 'f16']).default('f32'))
    .option('--causal', 'query i sees keys j ≤ i')
    .addOption(new Option('--input <kind>', 'what q and k hold').choices(inputKinds).default('stripes'))
    .option('--seed <n>', 'of the inputs', integer(0), 1)
    .option('--samples <n>', 'samples that count, of each contender', integer(1), 15)
    .option('--no-peer', 'leave onnxruntime-web out')
    .option('--markdown <file>', 'also write the table as Markdown')
    .option('--json', 'print one JSON object')
    .action(async (options: BenchOptions, command: Command) => {
      const out = output(options.json === true)
      const report = await bench(options, out, commandLine(command))
      out.result(report, formatReport(report))
    })
}

async function bench(options: BenchOptions, out: Output, command: string): Promise<BenchReport> {
  const { signal } = out
  const chosen = await chooseMethods(options.methods, options.option ?? [])
  if (options.markdown !== undefined) await checkWritable(options.markdown)
  using first = await createRuntime({ onNotice: out.log })
  const runtimes: Runtime[] = []
  try {
    for (const tier of chooseTiers(options.tiers, first)) {
      const { device, adapterInfo, software } = first
      runtimes.push(await createRuntime({ device, software, tier, ...(adapterInfo && { adapterInfo }) }))
    }
    const lengths = options.lengths ?? (first.software ? [128, 256] : [1024, 4096])
    const queryHeads = options.heads ?? (first.software ? 2 : 8)
    const { batch, headDim, dtype, seed, samples, causal = false, kvHeads = queryHeads } = options
    const methodsFor = (length: number) => chosen.map((each) => configure(each, options.scaled ? length : undefined))
    // What a method does not take is found out before anything runs.
    const configured = methodsFor(lengths[0]!)
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
      runtimes.length * chosen.length * samplesOf('method', samples, timer !== undefined) +
      (options.peer ? samplesOf('peer', samples, false) : 0)
    const bar = out.progress(lengths.length * perLength)
    const results: BenchResult[] = []
    try {
      for (const length of lengths) {
        const shape = { batch, queryHeads, kvHeads, queryLength: length, keyLength: length, headDim }
        const onSample = (contender: string) => bar.step(`${contender} at ${length}`)
        const measuring = { causal, scale: 1 / Math.sqrt(headDim), seed, samples, signal, onSample }
        results.push(...(await measureLength(runtimes, timer, methodsFor(length), shape, options, measuring)))
      }
    } finally {
      bar.stop()
    }
    const report: BenchReport = {
      shape: { batch, queryHeads, kvHeads, headDim, dtype, causal },
      input: { kind: options.input, seed },
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
  { input: kind, dtype, seed, peer }: BenchOptions,
  options: MeasureOptions,
): Promise<BenchResult[]> {
  const input = makeInput(kind, shape, dtype, seed)
  const results: BenchResult[] = []
  let dense: DenseAnswer | undefined
  for (const runtime of runtimes) {
    for (const method of methods) {
      options.signal.throwIfAborted()
      const measured = await measureMethod(runtime, method, input, dense, timer, options)
      dense ??= measured.answer
      results.push(measured.result)
    }
  }
  if (peer) {
    const { openPeer } = await import('../bench/peer.js')
    const runtime = runtimes[0]!
    results.push(
      await measurePeer(runtime, (tensors) => openPeer(runtime, input, tensors, options), input, dense!, options),
    )
  }
  return results
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
