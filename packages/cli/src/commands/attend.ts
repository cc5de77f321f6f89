import { performance } from 'node:perf_hooks'
import {
  type DType,
  floatsToHalves,
  type OptionValue,
  type OwnedTensor,
  type RunResult,
  type Runtime,
  type SparseAttention,
  SparseAttentionError,
  type Tensor,
  type Tier,
  tiers,
} from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { Command, Option } from 'commander'
import { type AdapterReport, describeAdapter, nameAdapter } from '../adapter.js'
import { checkWritable } from '../files.js'
import { parseOptions } from '../option-values.js'
import { findMethod } from '../registry.js'
import { type AttentionInput, readAttentionInput } from '../safetensors/attention-input.js'
import { type HostTensor, writeSafetensors } from '../safetensors/index.js'
import { median } from '../statistics.js'
import { formatTable } from '../table.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'

/** What `attend --json` prints. */
export interface AttendReport {
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  readonly shape: {
    readonly batch: number
    readonly queryHeads: number
    readonly kvHeads: number
    readonly queryLength: number
    readonly keyLength: number
    readonly headDim: number
    readonly dtype: DType
    readonly causal: boolean
  }
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
  using attention = await runtime.use(method, { queryHeads, kvHeads, headDim, dtype, causal: options.causal === true })
  const tensors = upload(runtime, input)
  const { result, runsMs } = await timeRuns(runtime, attention, tensors, options.repeat, out)

  const stats = await result.plan.stats()
  const written = await collect(runtime, result, input, options.mask === true)
  const adapter = describeAdapter(runtime)
  out.signal.throwIfAborted()
  await writeSafetensors(options.output, written, {
    method: id,
    options: JSON.stringify(method.options),
    causal: String(options.causal === true),
    tier: runtime.tier,
    adapter: nameAdapter(adapter),
  })
  const { batch, queryLength, keyLength } = input
  return {
    method: id,
    options: method.options,
    shape: { batch, queryHeads, kvHeads, queryLength, keyLength, headDim, dtype, causal: options.causal === true },
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

function upload(runtime: Runtime, input: AttentionInput): Record<'q' | 'k' | 'v', OwnedTensor> {
  const tensor = (name: 'q' | 'k' | 'v') => runtime.tensor(input.dtype, input[name].shape, input[name].elements)
  return { q: tensor('q'), k: tensor('k'), v: tensor('v') }
}

/** Runs once; or, to time several, once to warm up and then those that count. All write into the same outputs. */
async function timeRuns(
  runtime: Runtime,
  attention: SparseAttention,
  tensors: { q: Tensor; k: Tensor; v: Tensor },
  repeat: number | undefined,
  { signal, progress }: Output,
): Promise<{ result: RunResult; runsMs: number[] }> {
  const count = repeat === undefined ? 1 : repeat + 1
  const bar = progress(count)
  try {
    let result: RunResult | undefined
    const runsMs: number[] = []
    for (let i = 1; i <= count; i++) {
      const start = performance.now()
      result = await attention.run(result ? { ...tensors, out: result.out, lse: result.lse } : tensors, { signal })
      await runtime.idle()
      runsMs.push(performance.now() - start)
      bar.step(`run ${i}`)
    }
    return { result: result!, runsMs: runsMs.slice(repeat === undefined ? 0 : 1) }
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
  const heads = shape.queryHeads === shape.kvHeads ? `${shape.queryHeads}` : `${shape.queryHeads} over ${shape.kvHeads}`
  return formatTable([
    ['method', [report.method, ...options].join(' ')],
    [
      'shape',
      `batch ${shape.batch}, heads ${heads}, length ${shape.queryLength}×${shape.keyLength}, head_dim ${shape.headDim}, ${shape.dtype}${shape.causal ? ', causal' : ''}`,
    ],
    ['path', report.path],
    ['density', `${report.density.toFixed(4)} (${report.keptPairs} of ${report.visiblePairs} pairs)`],
    ['time', `${report.medianMs.toFixed(2)} ms${runsMs.length > 1 ? ` (median of ${runsMs.length})` : ''}`],
    ['tier', report.tier],
    ['adapter', nameAdapter(report.adapter)],
    ['written', report.output],
  ])
}
