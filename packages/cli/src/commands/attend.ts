import {
  type AdapterReport,
  describeAdapter,
  describeShape,
  findMethod,
  formatShape,
  median,
  nameAdapter,
  type ShapeReport,
  timeRuns,
  upload,
} from '@sparse-attention/compare'
import {
  type AttentionTensors,
  floatsToHalves,
  type OptionValue,
  type RunResult,
  type Runtime,
  type SparseAttention,
  SparseAttentionError,
  type Tier,
  tiers,
} from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { Command, Option } from 'commander'
import { checkWritable } from '../files.js'
import { parseOptions } from '../option-values.js'
import { type AttentionInput, type HostTensor, readAttentionInput, writeSafetensors } from '../safetensors/index.js'
import { formatTable } from '../table.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'
import { tokenGrid } from './token-grid.js'

/** What `attend --json` prints. */
export interface AttendReport {
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  readonly shape: ShapeReport
  /** What ran. */
  readonly path: 'sparse' | 'dense'
  /** Kept query–key pairs ÷ visible ones, over batch and heads. */
  readonly density: number
  readonly keptPairs: number
  readonly visiblePairs: number
  /** The median of `runsMs`. */
  readonly medianMs: number
  /** Each from the call to the end of the GPU's work; compilation, upload and read-back are left out. */
  readonly runsMs: readonly number[]
  readonly tier: Tier
  readonly adapter: AdapterReport
  readonly output: string
}

interface AttendOptions {
  readonly input: string
  readonly output: string
  readonly causal?: boolean
  readonly option?: readonly string[]
  readonly grid?: readonly number[]
  readonly tier: Tier | 'auto'
  readonly mask?: boolean
  readonly repeat?: number
  readonly json?: boolean
}

export function attendCommand(output: (json: boolean) => Output): Command {
  return new Command('attend')
    .description('run one method on tensors q [B,H,Lq,D], k and v [B,Hkv,Lkv,D] of a safetensors file')
    .argument('<id>', 'method, as listed by `methods`')
    .requiredOption('--input <file>', 'safetensors file with q, k and v, F32 or F16')
    .requiredOption('--output <file>', 'safetensors file to write out and lse to')
    .option('--causal', 'query i sees keys j ≤ i + Lkv − Lq')
    .option('--option <name=value...>', 'options of the method; @file.json for tables [layer][head]')
    .option(
      '--grid <n,n[,n]>',
      'where tokens lie: height,width of an image, or frames,height,width of a video',
      tokenGrid,
    )
    .addOption(new Option('--tier <tier>', 'kernels to use').choices(['auto', ...tiers]).default('auto'))
    .option('--mask', 'also write mask u8 [B,H,Lq,Lkv], 1 where a pair was computed')
    .option('--repeat <n>', 'run once more, uncounted, then time the median of this many runs', integer(1))
    .option('--json', 'print one JSON object')
    .action(async (id: string, options: AttendOptions) => {
      const out = output(options.json === true)
      const report = await attend(id, options, out)
      out.result(report, formatReport(report))
    })
}

async function attend(id: string, options: AttendOptions, out: Output): Promise<AttendReport> {
  const factory = findMethod(id)
  const method = factory(await parseOptions(factory.definition, options.option ?? []))
  const input = await readAttentionInput(options.input)
  out.signal.throwIfAborted()
  if (options.mask) checkMaskSize(input)
  await checkWritable(options.output)

  using runtime = await createRuntime({ tier: options.tier, onNotice: out.log })
  const { queryHeads, kvHeads, headDim, dtype } = input
  const causal = options.causal === true
  const context = options.grid && { context: { grid: options.grid } }
  using attention = await runtime.use(method, { queryHeads, kvHeads, headDim, dtype, causal })
  using q = upload(runtime, input, 'q')
  using k = upload(runtime, input, 'k')
  using v = upload(runtime, input, 'v')
  const { result, runsMs } = await runTimed(runtime, attention, { q, k, v, ...context }, options.repeat, out)

  const stats = await result.plan.stats()
  const written = await collect(runtime, result, input, options.mask === true)
  const adapter = describeAdapter(runtime)
  out.signal.throwIfAborted()
  await writeSafetensors(options.output, written, {
    method: id,
    options: JSON.stringify(method.options),
    causal: String(causal),
    tier: runtime.tier,
    adapter: nameAdapter(adapter),
  })
  return {
    method: id,
    options: method.options,
    shape: describeShape(input, causal),
    path: stats.path,
    density: stats.density,
    keptPairs: stats.keptPairs,
    visiblePairs: stats.visiblePairs,
    medianMs: median(runsMs),
    runsMs,
    tier: runtime.tier,
    adapter,
    output: options.output,
  }
}

/** A mask is one byte a pair: found out before the work, not after it. */
function checkMaskSize({ batch, queryHeads, queryLength, keyLength }: AttentionInput): void {
  const bytes = batch * queryHeads * queryLength * keyLength
  if (bytes < 2 ** 31) return
  throw new SparseAttentionError('LIMIT_EXCEEDED', {
    message: `The mask of ${batch}×${queryHeads}×${queryLength}×${keyLength} would take ${bytes} bytes, at most ${2 ** 31 - 1} are written.`,
    fix: 'Leave --mask out, or pass fewer heads.',
    where: 'mask',
  })
}

/** Runs once; or, to time several, once to warm up and then those that count. */
async function runTimed(
  runtime: Runtime,
  attention: SparseAttention,
  tensors: AttentionTensors,
  repeat: number | undefined,
  { signal, progress }: Output,
): ReturnType<typeof timeRuns> {
  const [warmUps, runs] = repeat === undefined ? [0, 1] : [1, repeat]
  const bar = progress(warmUps + runs)
  try {
    return await timeRuns(runtime, attention, tensors, { warmUps, runs, signal, onRun: () => bar.step('run') })
  } finally {
    bar.stop()
  }
}

async function collect(
  runtime: Runtime,
  { out, lse, plan }: RunResult,
  input: AttentionInput,
  mask: boolean,
): Promise<Record<string, HostTensor>> {
  const { batch, queryHeads, queryLength, keyLength } = input
  const values = await runtime.read(out)
  const elements = input.dtype === 'f16' ? floatsToHalves(values) : values
  return {
    out: { dtype: input.dtype === 'f16' ? 'F16' : 'F32', shape: out.shape, bytes: bytesOf(elements) },
    lse: { dtype: 'F32', shape: lse.shape, bytes: bytesOf(await runtime.read(lse)) },
    ...(mask
      ? { mask: { dtype: 'U8', shape: [batch, queryHeads, queryLength, keyLength], bytes: await plan.toMask() } }
      : {}),
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}

function formatReport(report: AttendReport): string {
  const { shape, runsMs } = report
  const options = Object.entries(report.options).map(([name, value]) => `${name}=${JSON.stringify(value)}`)
  return formatTable([
    ['method', [report.method, ...options].join(' ')],
    ['shape', formatShape(shape)],
    ['path', report.path],
    ['density', `${report.density.toFixed(4)} (${report.keptPairs} of ${report.visiblePairs} pairs)`],
    ['time', `${report.medianMs.toFixed(2)} ms${runsMs.length > 1 ? ` (median of ${runsMs.length})` : ''}`],
    ['tier', report.tier],
    ['adapter', nameAdapter(report.adapter)],
    ['written', report.output],
  ])
}
