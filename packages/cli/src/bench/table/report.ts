import type { Ceilings, Timing } from '@sparse-attention/compare'
import { type AdapterReport, nameAdapter } from '@sparse-attention/compare'
import { formatTable } from '../../table.js'
import { listVersions } from '../markdown.js'
import type { RowResult } from './measure-table.js'
import type { PyTorchReport } from './pytorch.js'
import type { Target, Unit } from './row.js'
import type { SeriesPoint } from './series.js'
import type { Scale } from './workbench.js'

/** What `bench table --json` prints. */
export interface TableReport {
  readonly scale: Scale
  readonly seed: number
  /** Of each time, those that count. */
  readonly samples: number
  /** Times are on the GPU's clock; else from submit to idle. */
  readonly gpuTimes: boolean
  readonly ceilings: Ceilings
  readonly rows: readonly RowResult[]
  readonly series: readonly SeriesPoint[]
  readonly pytorch: PyTorchReport
  readonly adapter: AdapterReport
  readonly versions: Readonly<Record<string, string | null>>
  /** UTC, YYYY-MM-DD, of the last part. */
  readonly date: string
  readonly command: string
  /** Commands that measured it, one after another; `ceilings` are the last one's. */
  readonly parts: readonly TablePart[]
  /** Rows and points that there are besides. */
  readonly missing: number
  /** Of all parts. */
  readonly seconds: number
  /** Files written, where asked for. */
  readonly written: readonly string[]
}

/** One command's part in a table. */
export interface TablePart {
  /** UTC, YYYY-MM-DD. */
  readonly date: string
  readonly command: string
  /** Rows and points that it measured. */
  readonly measured: number
  readonly ceilings: Ceilings
  readonly seconds: number
}

const head = ['row', 'target', 'measured', '', 'ms (p10–p90)', 'density', 'recall', 'ops', 'bytes', 'error']
const right: ReadonlySet<number> = new Set([1, 2, 4, 5, 6, 7, 8, 9])

export function formatTableReport(report: TableReport): string {
  return [
    `${describe(report)} on ${nameAdapter(report.adapter)}`,
    '',
    formatTable([head, ...report.rows.map((row) => [row.name, ...cells(row)])], right),
    '',
    ...remarks(report),
    ...notes(report),
    ...report.written.map((path) => `Written: ${path}`),
  ].join('\n')
}

/** The same as a page of Markdown, with what a figure must be named with. */
export function formatTableMarkdown(report: TableReport): string {
  const line = (values: readonly string[]) => `| ${values.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  const rule = (count: number, numbers: ReadonlySet<number>) =>
    line(Array.from({ length: count }, (_, i) => (numbers.has(i) ? '---:' : '---')))
  const points = (chart: SeriesPoint['chart']) => report.series.filter((point) => point.chart === chart)
  return [
    `# ${describe(report)}`,
    '',
    `${nameAdapter(report.adapter)}, ${report.date}; ${listVersions(report.versions)}. ${report.parts.map(({ command }) => `\`${command}\``).join(', ')}`,
    '',
    line(['what', ...head.slice(1)]),
    rule(head.length, right),
    ...report.rows.map((row) => line([`${row.title}${row.setup ? ` (${row.setup})` : ''}`, ...cells(row)])),
    '',
    ...remarks(report).map((text) => `- ${text}`),
    '',
    ...section('Speed against length', ['method', 'tokens', ...pointHead], points('length').map(lengthCells)),
    ...section(
      'Time against density, 32768 tokens, not causal',
      ['plan', 'density', 'ms (p10–p90)', 'dense ms', 'dense × density ÷ time'],
      points('density').map(densityCells),
    ),
    ...section(
      'PyTorch',
      ['backend', 'tokens', 'causal', 'ms (p10–p90)', 'TFLOPS', 'error'],
      report.pytorch.results.map(pytorchCells),
    ),
    ...notes(report).map((text) => `${text}\n`),
  ].join('\n')

  function section(title: string, columns: readonly string[], values: readonly (readonly string[])[]): string[] {
    if (values.length === 0) return []
    const numbers = new Set(columns.keys())
    numbers.delete(0)
    return [`## ${title}`, '', line(columns), rule(columns.length, numbers), ...values.map(line), '']
  }
}

function describe({ rows, samples, scale }: TableReport): string {
  const targets = rows.filter(({ target }) => target !== null)
  const met = targets.filter((row) => row.met === true).length
  return `Attention, ${scale === 'full' ? '' : 'tiny, '}f16: ${met} of ${targets.length} targets met; ${samples} samples`
}

function cells(row: RowResult): string[] {
  const { target, unit, value, met, status, density, recall, operationsShare, bytesShare, checkedError } = row
  const first = Object.values(row.times)[0]
  return [
    target ? formatTarget(target, unit) : '–',
    value === null ? status : formatValue(value, unit),
    met === null ? '' : met ? '✓' : '✗',
    first ? range(first) : '–',
    density === null ? '–' : density.toFixed(3),
    recall === null ? '–' : recall.toFixed(3),
    share(operationsShare),
    share(bytesShare),
    checkedError === null ? '–' : checkedError.toExponential(1),
  ]
}

function formatTarget(target: Target, unit: Unit): string {
  return 'atLeast' in target ? `≥ ${formatValue(target.atLeast, unit)}` : `≤ ${formatValue(target.atMost, unit)}`
}

function formatValue(value: number, unit: Unit): string {
  if (unit === '%') return `${(100 * value).toFixed(1)} %`
  if (unit === '×') return value.toFixed(2)
  return `${value < 10 ? value.toFixed(2) : value.toFixed(0)} TFLOPS`
}

function share(value: number | null): string {
  return value === null ? '–' : `${(100 * value).toFixed(1)} %`
}

function range({ medianMs, p10Ms, p90Ms }: Timing): string {
  const digits = medianMs < 1 ? 3 : 2
  return `${medianMs.toFixed(digits)} (${p10Ms.toFixed(digits)}–${p90Ms.toFixed(digits)})`
}

const pointHead = ['ms (p10–p90)', 'planning ms', 'dense ms', 'against dense', 'density', 'recall', 'error']

function lengthCells({
  series,
  x,
  status,
  total,
  planning,
  dense,
  density,
  recall,
  checkedError,
}: SeriesPoint): string[] {
  return [
    series,
    String(x),
    total ? range(total) : status,
    planning ? planning.medianMs.toFixed(3) : '–',
    dense ? dense.medianMs.toFixed(3) : '–',
    total && dense ? `${(dense.medianMs / total.medianMs).toFixed(2)}×` : '–',
    density === null ? '–' : density.toFixed(3),
    recall === null ? '–' : recall.toFixed(3),
    checkedError === null ? '–' : checkedError.toExponential(1),
  ]
}

function densityCells({ series, status, total, dense, density }: SeriesPoint): string[] {
  return [
    series,
    density === null ? '–' : density.toFixed(3),
    total ? range(total) : status,
    dense ? dense.medianMs.toFixed(2) : '–',
    total && dense && density !== null ? ((dense.medianMs * density) / total.medianMs).toFixed(2) : '–',
  ]
}

function pytorchCells(result: PyTorchReport['results'][number]): string[] {
  const { backend, length, heads, headDim, causal, status, checkedError, gpu } = result
  const pairs = causal ? (length * (length + 1)) / 2 : length * length
  return [
    backend,
    String(length),
    causal ? 'yes' : 'no',
    gpu ? range(gpu) : status,
    gpu ? ((4 * headDim * heads * pairs) / gpu.medianMs / 1e9).toFixed(0) : '–',
    checkedError === null ? '–' : checkedError.toExponential(1),
  ]
}

/** Why something has no figure, and what else a row has to say. */
function remarks({ rows, series, pytorch }: TableReport): string[] {
  const reasons = [...rows, ...series].flatMap(({ name, status, reason }) =>
    reason === null ? [] : [`${name}: ${status}, ${reason}.`],
  )
  const others = rows.flatMap(({ name, times, note }) => {
    const named = Object.entries(times)
    const list =
      named.length > 1 ? named.map(([label, time]) => `${label} ${time.medianMs.toFixed(3)} ms`).join(', ') : ''
    const text = [list, note ?? ''].filter(Boolean).join('; ')
    return text ? [`${name}: ${text}.`] : []
  })
  return [...reasons, ...others, ...(pytorch.reason === null ? [] : [`PyTorch: ${pytorch.reason}.`])]
}

function notes({ ceilings, gpuTimes, scale, seconds, parts, missing }: TableReport): string[] {
  const { bytesPerSecond, f32OperationsPerSecond, matrixOperationsPerSecond } = ceilings
  const matrix =
    matrixOperationsPerSecond === null
      ? ''
      : `, ${(matrixOperationsPerSecond / 1e12).toFixed(0)} TFLOPS of f16 matrices`
  return [
    `Times: medians ${gpuTimes ? "on the GPU's clock" : 'from submit to idle; this device has no timestamps'}, of what the row names first.`,
    `ops, bytes: the least that it must compute and move, as shares of ${(f32OperationsPerSecond / 1e12).toFixed(2)} TFLOPS of f32${matrix} (the tier matrix against the latter) and ${(bytesPerSecond / 1e9).toFixed(1)} GB/s, measured in this run.`,
    'error: of rows checked against float64 before anything was timed.',
    ...(scale === 'tiny' ? ['At this scale targets mean nothing: they are set for full sizes on a large GPU.'] : []),
    ...(parts.length > 1
      ? [
          `Measured in ${parts.length} parts; shares are of the ceilings of each row's own part, those named here of the last.`,
        ]
      : []),
    ...(missing > 0 ? [`${missing} rows and points are not there; --resume measures them.`] : []),
    `The whole run took ${seconds.toFixed(0)} s.`,
  ]
}
