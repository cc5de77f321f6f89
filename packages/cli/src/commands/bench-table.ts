import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { describeAdapter, GpuTimer, measureCeilings } from '@sparse-attention/compare'
import { SparseAttentionError } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { Command, InvalidArgumentError, Option } from 'commander'
import { resultJson } from '../bench/result-json.js'
import { choose, type Measured, measureTable } from '../bench/table/measure-table.js'
import { noPyTorch, type PyTorchReport, timePyTorch } from '../bench/table/pytorch.js'
import { formatTableMarkdown, formatTableReport, type TableReport } from '../bench/table/report.js'
import { checkSameRun, mergeParts, notYet, readEarlier } from '../bench/table/resume.js'
import { seriesLengths } from '../bench/table/series.js'
import { type Scale, Workbench } from '../bench/table/workbench.js'
import { benchVersions, commandLine } from '../bench/versions.js'
import { checkWritable, writeAtomically } from '../files.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'

interface TableOptions {
  readonly rows?: RegExp
  readonly scale: Scale | 'auto'
  readonly seed: number
  readonly samples?: number
  readonly pytorch: boolean
  readonly python: string
  readonly out?: string
  readonly resume?: boolean
  readonly stopAfter?: number
  readonly markdown?: string
  readonly json?: boolean
}

export function benchTableCommand(output: (json: boolean) => Output): Command {
  return new Command('table')
    .description('measure what this project promises, row by row, beside PyTorch and onnxruntime-web')
    .option('--rows <regex>', 'only rows and points of charts whose name matches', pattern)
    .addOption(
      new Option('--scale <scale>', 'sizes: full, or tiny for the CPU; auto: by the adapter')
        .choices(['auto', 'full', 'tiny'])
        .default('auto'),
    )
    .option('--seed <n>', 'of inputs and plans', integer(0), 1)
    .option('--samples <n>', 'samples that count, of each time (default: 9; tiny 1)', integer(1))
    .option('--no-pytorch', 'leave PyTorch out')
    .option('--python <command>', 'a Python with torch, for its figures', 'python3')
    .option('--out <folder>', 'write table.json and table.md there, again after each row')
    .option('--resume', "go on with the folder's table: what it lacks is measured, or what --rows match")
    .option('--stop-after <s>', 'begin no row or point later than so many seconds', integer(1))
    .option('--markdown <file>', 'write the table as Markdown')
    .option('--json', 'print one JSON object')
    .action(async (options: TableOptions, command: Command) => {
      const out = output(options.json === true)
      const report = await benchTable(options, out, commandLine(command))
      out.result(report, formatTableReport(report))
    })
}

function pattern(text: string): RegExp {
  try {
    return new RegExp(text)
  } catch (error) {
    throw new InvalidArgumentError(`It must be a regular expression: ${(error as Error).message}.`)
  }
}

async function benchTable(options: TableOptions, out: Output, command: string): Promise<TableReport> {
  const { signal } = out
  const start = performance.now()
  const named = choose(options.rows)
  if (named.rows.length + named.points.length === 0) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `No row's name matches ${options.rows}.`,
      fix: 'Leave --rows out to see the names of all, or match part of one, such as dense.',
      where: 'rows',
    })
  }
  const { markdown } = await prepareFiles(options)
  const earlier = options.resume ? await earlierOf(options) : undefined
  // Rows that are asked for by name are measured again.
  const chosen = earlier && options.rows === undefined ? notYet(named, earlier) : named
  const steps = chosen.rows.length + chosen.points.length
  using runtime = await createRuntime({ onNotice: out.log })
  const scale = options.scale === 'auto' ? (runtime.software ? 'tiny' : 'full') : options.scale
  const { seed, samples = scale === 'full' ? 9 : 1 } = options
  using timer = await GpuTimer.for(runtime)
  const about = {
    ...{ scale, seed, samples, gpuTimes: timer !== undefined },
    ...{ adapter: describeAdapter(runtime), versions: benchVersions() },
  }
  if (earlier) checkSameRun(earlier, about)
  // Nobody else uses the GPU while PyTorch is timed.
  const pytorch = earlier?.pytorch.results.length ? earlier.pytorch : await pytorchFor(options, scale, samples, signal)
  const ceilings = await measureCeilings(runtime, timer, signal)
  using bench = new Workbench({ runtime, ceilings, scale, seed, samples, signal, pytorch, timer })
  const written = [...(options.out === undefined ? [] : [join(options.out, 'table.json')]), ...markdown]
  const all = choose(undefined)
  const reportOf = (found: Measured): TableReport => {
    const { rows, series } = mergeParts(earlier, found)
    const date = new Date().toISOString().slice(0, 10)
    const seconds = (performance.now() - start) / 1000
    const part = { date, command, measured: found.rows.length + found.series.length, ceilings, seconds }
    return {
      ...{ ...about, ceilings, rows, series, pytorch, date, command, written },
      parts: [...(earlier?.parts ?? []), part],
      missing: all.rows.length + all.points.length - rows.length - series.length,
      seconds: (earlier?.seconds ?? 0) + seconds,
    }
  }
  const bar = out.progress(steps)
  const write = async (report: TableReport) => {
    signal.throwIfAborted()
    const text = new TextEncoder()
    for (const path of written) {
      const content =
        path.endsWith('.json') && !markdown.includes(path) ? resultJson(report) : formatTableMarkdown(report)
      await writeAtomically(path, text.encode(content))
    }
  }
  try {
    const onStep = async (name: string, found: Measured) => {
      bar.step(name)
      await write(reportOf(found))
    }
    const { stopAfter = Number.POSITIVE_INFINITY } = options
    const goesOn = () => performance.now() - start < 1000 * stopAfter
    const report = reportOf(await measureTable(bench, chosen, onStep, goesOn))
    await write(report)
    return report
  } finally {
    bar.stop()
  }
}

/**
 * @throws INVALID_ARGUMENT without a folder, INVALID_FILE
 */
async function earlierOf({ out }: TableOptions): Promise<TableReport | undefined> {
  if (out !== undefined) return readEarlier(join(out, 'table.json'))
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: 'There is no folder with a table to go on with.',
    fix: 'Name it by --out.',
    where: 'resume',
  })
}

/** Finds out before long work whether its results can be written. */
async function prepareFiles({ out, markdown }: TableOptions): Promise<{ readonly markdown: readonly string[] }> {
  const paths = [...(markdown === undefined ? [] : [markdown]), ...(out === undefined ? [] : [join(out, 'table.md')])]
  if (out !== undefined) {
    await mkdir(out, { recursive: true }).catch(() => {}) // whatever is wrong, the check below says it
    await checkWritable(join(out, 'table.json'))
  }
  for (const path of paths) await checkWritable(path)
  return { markdown: paths }
}

async function pytorchFor(
  { pytorch, python, rows }: TableOptions,
  scale: Scale,
  samples: number,
  signal: AbortSignal,
): Promise<PyTorchReport> {
  if (!pytorch) return noPyTorch('left out')
  const wanted = ['series/pytorch', 'long-prompt'].some((name) => rows?.test(name) ?? true)
  if (!wanted) return noPyTorch('none of these rows compares with it')
  return timePyTorch({ python, lengths: scale === 'full' ? seriesLengths : [512], samples, seed: 1, signal })
}
