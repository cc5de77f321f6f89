import type { DType, Tier } from '@sparse-attention/core'
import type { VideoGrid } from '@sparse-attention/models'
import type { AdapterReport } from '../../adapter.js'
import { nameAdapter } from '../../adapter.js'
import { formatOptions } from '../../option-values.js'
import { formatTable } from '../../table.js'
import type { FrontierResult } from './measure-frontier.js'

/** What `bench video --json` prints, and video.json holds. */
export interface VideoFrontierReport {
  readonly date: string
  readonly command: string
  readonly model: string
  readonly grid: VideoGrid
  readonly tokens: number
  readonly steps: number
  readonly guidance: number
  readonly shift: number
  /** In which attention computes. */
  readonly dtype: DType
  /** Videos of each method. */
  readonly seeds: number
  readonly looksEvery: number
  /** Dense first. */
  readonly results: readonly FrontierResult[]
  readonly tier: Tier
  readonly adapter: AdapterReport
  readonly versions: Readonly<Record<string, string | null>>
}

/** `dense and step cache 0.1` */
export function nameCase({ method, stepCache }: Pick<FrontierResult, 'method' | 'stepCache'>): string {
  return stepCache === null ? method : `${method} and step cache ${stepCache}`
}

/** For people. */
export function formatFrontier(report: VideoFrontierReport): string {
  const { results, adapter } = report
  const ratio = (value: number | null) => (value === null ? '–' : `${value.toFixed(2)}×`)
  const table = formatTable(
    [
      ['method', 'density', 'PSNR', 'SSIM', 'attention', '', 'video', '', ''],
      ...results.map((result, i) => [
        nameCase(result),
        result.density.toFixed(3),
        i === 0 ? '' : `${result.psnr.mean.toFixed(2)} dB`,
        i === 0 ? '' : result.ssim.mean.toFixed(4),
        `${result.attentionMs.toFixed(0)} ms`,
        ratio(result.attentionSpeedUp),
        result.totalMs === null ? '–' : `${result.totalMs.toFixed(0)} ms`,
        ratio(result.speedUp),
        formatOptions(result.options),
      ]),
    ],
    new Set([1, 2, 3, 4, 5, 6, 7]),
  )
  return [
    `${report.model}, ${report.tokens} tokens (${report.grid.join('×')}), ${report.steps} steps, guidance ${report.guidance}, attention in ${report.dtype}; ${report.seeds} videos of each method`,
    '',
    table,
    '',
    `Density and attention: of every ${report.looksEvery === 1 ? '' : `${report.looksEvery}. `}video; whole videos: median of the others, ratios by seed.`,
    `Tier ${report.tier} on ${nameAdapter(adapter)}, ${report.date}; ${Object.entries(report.versions)
      .map((entry) => entry.join(' '))
      .join(', ')}`,
  ].join('\n')
}
