import type { Ceilings } from '@sparse-attention/compare'
import { formatTable } from '../../table.js'
import { formatError, formatMethod, formatNumber, formatShare, formatSpeedUp, formatTiming } from '../format.js'
import { markdownTable } from '../markdown.js'
import { formatRun, type RunReport } from '../run-report.js'
import type { TokenResult } from './measure-token.js'

/** What `bench decode --json` prints. */
export interface DecodeReport extends RunReport {
  readonly kvHeads: number
  readonly headDim: number
  readonly dtype: 'f16'
  readonly pageSize: number
  readonly seed: number
  /** Of each time, those that count. */
  readonly samples: number
  /** Times are on the GPU's clock; else from submit to idle. */
  readonly gpuTimes: boolean
  readonly ceilings: Ceilings
  readonly results: readonly TokenResult[]
  /** Of the whole run. */
  readonly seconds: number
}

const head = [
  'sequences × keys',
  'group',
  'method',
  'time (p10–p90)',
  'attend',
  'planning',
  'against dense',
  'kept',
  'mass, least',
  'of a copy',
  'error',
]
const left: ReadonlySet<number> = new Set([2])
const right: ReadonlySet<number> = new Set([...head.keys()].filter((column) => !left.has(column)))

/** For people, as it comes. */
export function formatTokens(results: readonly TokenResult[]): string {
  return formatTable([head, ...results.map(cells)], right)
}

export function formatDecode(report: DecodeReport): string {
  return [formatTokens(report.results), '', ...reasons(report), ...notes(report), formatRun(report)].join('\n')
}

export function formatDecodeMarkdown(report: DecodeReport): string {
  return [
    '# One token at a time',
    '',
    formatRun(report),
    '',
    markdownTable(head, report.results.map(cells), left),
    '',
    ...[...reasons(report), ...notes(report)].map((line) => `${line}\n`),
  ].join('\n')
}

function cells(result: TokenResult): string[] {
  const { batch, keys, group, method, options, status, total, attend, planningShare, speedUp, density, mass } = result
  return [
    `${batch} × ${keys}`,
    String(group),
    formatMethod(method, options),
    total ? formatTiming(total) : status,
    formatTiming(attend),
    formatShare(planningShare),
    formatSpeedUp(speedUp),
    formatShare(density, 1),
    mass ? `${mass.mean.toFixed(3)}, ${formatNumber(mass.least, 3)}` : '–',
    formatShare(result.copyShare),
    formatError(result.checkedError),
  ]
}

function reasons({ results }: DecodeReport): string[] {
  return results.flatMap(({ batch, keys, group, method, status, reason }) =>
    reason === null ? [] : [`${method} at ${batch} × ${keys}, group ${group}: ${status}, ${reason}.`],
  )
}

function notes({ kvHeads, headDim, pageSize, samples, gpuTimes, ceilings, seconds }: DecodeReport): string[] {
  return [
    `One token of each sequence, ${kvHeads} KV heads of ${headDim}, f16, pages of ${pageSize}; group: query heads of a KV head. Planning and attending, medians of ${samples} ${gpuTimes ? "on the GPU's clock" : 'from submit to idle; this device has no timestamps'}.`,
    `Planning: 1 − attend ÷ time. Kept: of the keys. Mass: of the softmax that the selection holds, mean and least of heads. Of a copy: bytes of the keys and values attended to ÷ attend, of ${(ceilings.bytesPerSecond / 1e9).toFixed(1)} GB/s copied in this run.`,
    `Error: of the first and last head, against float64 over the same selection, before anything was timed. The whole run took ${seconds.toFixed(0)} s.`,
  ]
}
