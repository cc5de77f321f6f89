import { nameAdapter } from '@sparse-attention/compare'
import type { DType } from '@sparse-attention/core'
import type { VideoGrid } from '@sparse-attention/models'
import { formatOptions } from '../../option-values.js'
import { formatTable } from '../../table.js'
import { listVersions } from '../markdown.js'
import type { RunReport } from '../run-report.js'
import type { FrontierResult } from './samples.js'

/** What `bench video --json` prints, and video.json holds. */
export interface VideoFrontierReport extends RunReport {
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
  /** Whether onnxruntime-web's dispatches are recorded, and why. */
  readonly captured: { readonly used: boolean; readonly reason: string }
  /** Dense first. */
  readonly results: readonly FrontierResult[]
}

/** `dense and step cache 0.1` */
export function nameCase({ method, stepCache }: Pick<FrontierResult, 'method' | 'stepCache'>): string {
  return stepCache === null ? method : `${method} and step cache ${stepCache}`
}

const ms = (value: number | null, digits = 0) => (value === null ? '–' : `${value.toFixed(digits)} ms`)
const ratio = (value: number | null) => (value === null ? '–' : `${value.toFixed(2)}×`)

/** One case in a line, as soon as there is something to say. */
export function formatResult(result: FrontierResult): string {
  const density = result.density === null ? '–' : result.density.toFixed(3)
  const quality = `${result.psnr.mean.toFixed(1)} dB, SSIM ${result.ssim.mean.toFixed(3)}`
  const time = result.totalMs === null ? '' : `, ${ms(result.totalMs)} ${ratio(result.speedUp)}`
  return `${nameCase(result)} ${formatOptions(result.options)}: density ${density}, ${quality}${time}`
}

/** For people. */
export function formatFrontier(report: VideoFrontierReport): string {
  const { results, adapter, captured } = report
  const table = formatTable(
    [
      ['method', 'density', 'PSNR', 'SSIM', 'attention', '', 'video', '', 'host', 'wait', ''],
      ...results.map((result, i) => [
        nameCase(result),
        result.density === null ? '–' : result.density.toFixed(3),
        i === 0 ? '' : `${result.psnr.mean.toFixed(2)} dB`,
        i === 0 ? '' : result.ssim.mean.toFixed(4),
        ms(result.attentionMs),
        ratio(result.attentionSpeedUp),
        ms(result.totalMs),
        ratio(result.speedUp),
        ms(result.hostMs, 1),
        ms(result.waitMs, 1),
        formatOptions(result.options),
      ]),
    ],
    new Set([1, 2, 3, 4, 5, 6, 7, 8, 9]),
  )
  return [
    `${report.model}, ${report.tokens} tokens (${report.grid.join('×')}), ${report.steps} steps, guidance ${report.guidance}, attention in ${report.dtype}; ${report.seeds} videos of each method`,
    '',
    table,
    '',
    `Density and attention: of every ${report.looksEvery === 1 ? '' : `${report.looksEvery}. `}video; whole videos: median of the others, ratios by seed.`,
    `Host: of a pass through the model, until everything was handed to the GPU; wait: from then until its output was there. Dispatches ${captured.used ? 'are recorded' : `are not recorded: ${captured.reason}`}.`,
    `Tier ${report.tier} on ${nameAdapter(adapter)}, ${report.date}; ${listVersions(report.versions)}`,
  ].join('\n')
}
