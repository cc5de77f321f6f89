import { FigureTable } from '../figure-table.js'
import {
  formatError,
  formatMethod,
  formatMs,
  formatNumber,
  formatShare,
  formatSpeedUp,
  formatTiming,
} from '../format.js'
import type { RunReport } from '../run-report.js'
import type { StepsResult } from './measure-steps.js'

/** A shape as it was measured. */
export interface MeasuredShape {
  readonly name: string
  readonly grid: readonly number[]
  readonly tokens: number
  /** Of a layer of the model. */
  readonly modelHeads: number
  /** At a time: as many as were asked for and memory allows. */
  readonly heads: number
  readonly headDim: number
}

/** What `bench diffusion --json` prints. */
export interface DiffusionReport extends RunReport {
  readonly dtype: 'f16'
  readonly shapes: readonly MeasuredShape[]
  readonly steps: number
  readonly seed: number
  readonly samples: number
  readonly gpuTimes: boolean
  readonly results: readonly StepsResult[]
  /** Of the whole run. */
  readonly seconds: number
}

const head = [
  'shape',
  'method',
  'a step (p10–p90)',
  'first step',
  'attend',
  'planning',
  'against dense',
  'density',
  'recall',
  'against dense output',
  'TFLOPS of kept pairs',
  'state MB',
  'error',
]
const table = new FigureTable<StepsResult>(head, new Set([0, 1]), cells)

/** For people, as it comes. */
export function formatSteps(results: readonly StepsResult[]): string {
  return table.text(results)
}

export function formatDiffusion(report: DiffusionReport): string {
  return table.report(report.results, notes(report), report)
}

export function formatDiffusionMarkdown(report: DiffusionReport): string {
  return table.markdown('Attention of video models', report.results, notes(report), report)
}

function cells(result: StepsResult): string[] {
  const { shape, method, options, status, total, firstMs, attend, planningShare, speedUp, operations } = result
  return [
    shape,
    formatMethod(method, options),
    total ? formatTiming(total) : status,
    firstMs === null ? '–' : formatMs(firstMs),
    attend ? formatMs(attend.medianMs) : '–',
    formatShare(planningShare),
    formatSpeedUp(speedUp),
    formatNumber(result.density, 3),
    formatNumber(result.recall, 3),
    formatError(result.relativeError),
    operations !== null && attend ? (operations / attend.medianMs / 1e9).toFixed(operations < 1e12 ? 3 : 0) : '–',
    result.stateBytes === null ? '–' : (result.stateBytes / 1e6).toFixed(2),
    formatError(result.checkedError),
  ]
}

function reasons({ results }: DiffusionReport): string[] {
  return results.flatMap(({ shape, method, status, reason }) =>
    reason === null ? [] : [`${method} at ${shape}: ${status}, ${reason}.`],
  )
}

function notes(report: DiffusionReport): string[] {
  const { shapes, steps, samples, gpuTimes, seconds } = report
  return [
    ...reasons(report),
    ...shapes.map(
      ({ name, grid, tokens, heads, modelHeads, headDim }) =>
        `${name}: ${grid.join(' × ')} = ${tokens} tokens, ${heads} of the ${modelHeads} heads of a layer at a time, head_dim ${headDim}, f16.`,
    ),
    `A step: planning and attending in one layer, each of ${steps} steps timed by itself ${gpuTimes ? "on the GPU's clock" : 'from submit to idle; this device has no timestamps'}, median of those behind the first, with a state that is carried. Attend: over the last step's plan, median of ${samples}; planning: 1 − attend ÷ a step.`,
    `Density, recall, the output against dense's and the error of rows checked against float64 are of the last step. The whole run took ${seconds.toFixed(0)} s.`,
  ]
}
