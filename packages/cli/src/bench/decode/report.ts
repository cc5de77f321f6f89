import type { Ceilings } from '@sparse-attention/compare'
import { FigureTable } from '../figure-table.js'
import { formatError, formatMethod, formatNumber, formatShare, formatSpeedUp, formatTiming } from '../format.js'
import type { RunReport } from '../run-report.js'
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
const table = new FigureTable<TokenResult>(head, new Set([2]), cells)

/** For people, as it comes. */
export function formatTokens(results: readonly TokenResult[]): string {
  return table.text(results)
}

export function formatDecode(report: DecodeReport): string {
  return table.report(report.results, notes(report), report)
}

export function formatDecodeMarkdown(report: DecodeReport): string {
  return table.markdown('One token at a time', report.results, notes(report), report)
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

function notes(report: DecodeReport): string[] {
  const { kvHeads, headDim, pageSize, samples, gpuTimes, ceilings, seconds } = report
  return [
    ...reasons(report),
    `One token of each sequence, ${kvHeads} KV heads of ${headDim}, f16, pages of ${pageSize}; group: query heads of a KV head. Planning and attending, medians of ${samples} ${gpuTimes ? "on the GPU's clock" : 'from submit to idle; this device has no timestamps'}.`,
    `Planning: 1 − attend ÷ time. Kept: of the keys. Mass: of the softmax that the selection holds, mean and least of heads. Of a copy: bytes of the keys and values attended to ÷ attend, of ${(ceilings.bytesPerSecond / 1e9).toFixed(1)} GB/s copied in this run.`,
    `Error: of the first and last head, against float64 over the same selection, before anything was timed. The whole run took ${seconds.toFixed(0)} s.`,
  ]
}
