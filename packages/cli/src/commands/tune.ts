import { type AdapterReport, describeAdapter, nameAdapter } from '@sparse-attention/compare'
import { type DType, mergeTuning, type Tier, type TuningTable } from '@sparse-attention/core'
import { createRuntime, saveTuning, tuningFile } from '@sparse-attention/core/node'
import { type TuneReport, tune } from '@sparse-attention/kernels'
import { Command, Option } from 'commander'
import { formatTable } from '../table.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'
import { integerList } from './integer-list.js'

interface TuneCommandOptions {
  readonly headDim: readonly number[]
  readonly dtype: DType | 'both'
  readonly mask: 'causal' | 'full' | 'both'
  readonly tier: Tier | 'auto'
  readonly lengths?: readonly number[]
  readonly budgetMs?: number
  readonly save: boolean
  readonly json?: boolean
}

/** What `tune --json` prints. */
export interface TuneCommandReport {
  readonly calls: readonly (Omit<TuneReport, 'table'> & {
    readonly headDim: number
    readonly dtype: DType
    readonly causal: boolean
  })[]
  readonly table: TuningTable
  /** Where the table was added to; null where it was not. */
  readonly file: string | null
  readonly tier: Tier
  readonly adapter: AdapterReport
}

export function tuneCommand(output: (json: boolean) => Output): Command {
  return new Command('tune')
    .description(
      "time the variants of attention kernels on this device, and keep the fastest in the user's cache folder",
    )
    .addOption(
      new Option('--head-dim <n,n,...>', 'sizes of a head').argParser(integerList).default([64, 128], '64,128'),
    )
    .addOption(new Option('--dtype <dtype>', 'of q, k, v and output').choices(['f32', 'f16', 'both']).default('both'))
    .addOption(new Option('--mask <mask>', 'kind of calls').choices(['causal', 'full', 'both']).default('both'))
    .addOption(
      new Option('--tier <tier>', 'kernels to tune').choices(['auto', 'matrix', 'f16', 'portable']).default('auto'),
    )
    .option(
      '--lengths <n,n,...>',
      'tokens of queries and keys (default: found by the speed of the device)',
      integerList,
    )
    .option('--budget-ms <n>', 'time for measuring each kind of call (default: 2000; on the CPU 10000)', integer(1))
    .option('--no-save', 'only print')
    .option('--json', 'print one JSON object')
    .action(async (options: TuneCommandOptions) => {
      const out = output(options.json === true)
      const report = await tuneCalls(options, out)
      out.result(report, formatReport(report))
    })
}

async function tuneCalls(options: TuneCommandOptions, out: Output): Promise<TuneCommandReport> {
  const { signal } = out
  using runtime = await createRuntime({ tier: options.tier, onNotice: out.log })
  const dtypes: readonly DType[] = options.dtype === 'both' ? ['f16', 'f32'] : [options.dtype]
  const masks = options.mask === 'both' ? [true, false] : [options.mask === 'causal']
  const calls = options.headDim.flatMap((headDim) =>
    dtypes.flatMap((dtype) => masks.map((causal) => ({ headDim, dtype, causal }))),
  )
  const { lengths, budgetMs } = options
  const tuned: TuneCommandReport['calls'][number][] = []
  let table: TuningTable = { version: 1, entries: [] }
  const bar = out.progress(100)
  try {
    let shown = 0
    for (const [index, call] of calls.entries()) {
      const report = await tune(
        runtime,
        { ...call, ...(lengths && { lengths }) },
        {
          signal,
          ...(budgetMs !== undefined && { budgetMs }),
          onProgress: ({ variant, elapsedMs, mostMs }) => {
            const done = (100 * (index + Math.min(1, elapsedMs / mostMs))) / calls.length
            for (; shown < Math.floor(done); shown++) bar.step(`head_dim ${call.headDim} ${call.dtype}: ${variant}`)
          },
        },
      )
      table = mergeTuning(table, report.table)
      const { table: _, ...rest } = report
      tuned.push({ ...call, ...rest })
    }
  } finally {
    bar.stop()
  }
  signal.throwIfAborted()
  if (options.save) await saveTuning(table)
  return {
    calls: tuned,
    table,
    file: options.save ? (tuningFile() ?? null) : null,
    tier: runtime.tier,
    adapter: describeAdapter(runtime),
  }
}

function formatReport({ calls, table, file, tier, adapter }: TuneCommandReport): string {
  const parts = calls.map(({ headDim, dtype, causal, lengths, winner, variants, elapsedMs }) => {
    const rows = variants.map(({ variant, ms, ratios, left }) => [
      `${variant === winner ? '*' : ' '} ${variant}`,
      ...lengths.flatMap((_, i) => [ratios[i]?.toFixed(2) ?? '–', ms[i]?.toPrecision(3) ?? '–']),
      left ?? '',
    ])
    const head = ['  variant', ...lengths.flatMap((length) => [`× at ${length}`, 'ms']), '']
    const right = new Set(lengths.flatMap((_, i) => [1 + 2 * i, 2 + 2 * i]))
    const call = `head_dim ${headDim}, ${dtype}${causal ? ', causal' : ''}: tuned in ${(elapsedMs / 1000).toFixed(1)} s`
    return `${call}\n${formatTable([head, ...rows], right)}`
  })
  const gains = table.entries.filter(({ timeRatio }) => timeRatio < 1).length
  const kept =
    file === null ? 'Nothing was saved.' : `Saved in ${file}; createRuntime({ tuning: 'cached' }) takes it from there.`
  return [
    ...parts,
    `×: time divided by the default's, which is first. *: the winner, in ${gains} of ${table.entries.length} not the default.`,
    `Tier ${tier} on ${nameAdapter(adapter)}. ${kept}`,
  ].join('\n\n')
}
