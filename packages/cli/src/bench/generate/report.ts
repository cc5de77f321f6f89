import { mean } from '@sparse-attention/compare'
import { FigureTable } from '../figure-table.js'
import { formatMethod, formatMs, formatNumber, formatShare } from '../format.js'
import { formatRun, type RunReport } from '../run-report.js'
import { formatHostTimes, hostTimesMarkdown } from './host-table.js'
import type { GenerationFound, GenerationResult } from './measure-generation.js'

/** What `bench generate --json` prints. */
export interface GenerationReport extends RunReport, GenerationFound {
  readonly model: string
  /** Tokens of each prompt. */
  readonly length: number
  /** Tokens of each dense text. */
  readonly tokens: number
  readonly seed: number
  /** Of the whole run. */
  readonly seconds: number
}

const head = ['method', 'density', 'needles', 'agreement', 'least', 'same until', 'a token']
const tableOf = ({ needles }: GenerationFound): FigureTable<GenerationResult> =>
  new FigureTable(head, new Set([0]), (result) => cells(result, needles))

/** For people, as it comes. */
export function formatFound(found: GenerationFound): string {
  return `${tableOf(found).text(found.results)}\n${found.passages} passages, ${found.needles} needles`
}

export function formatGeneration(report: GenerationReport): string {
  const { results } = report
  return [formatFound(report), '', formatHostTimes(results), '', ...notes(report), formatRun(report)].join('\n')
}

export function formatGenerationMarkdown(report: GenerationReport): string {
  const { results } = report
  return `${tableOf(report).markdown('Writing token by token', results, notes(report), report)}\n${hostTimesMarkdown(results)}`
}

function cells(result: GenerationResult, needles: number): string[] {
  const { method, options, density, agreement, samePrefix, tokenMs } = result
  const none = agreement.length === 0
  return [
    formatMethod(method, options),
    formatNumber(density, 3),
    needles === 0 ? '–' : `${result.needles} of ${needles}`,
    none ? '–' : formatShare(mean(agreement), 1),
    none ? '–' : formatShare(Math.min(...agreement), 1),
    none ? '–' : samePrefix.join(', '),
    tokenMs === null ? '–' : formatMs(tokenMs),
  ]
}

function notes({ model, length, tokens, passages, seed, seconds }: GenerationReport): string[] {
  return [
    `${model}, greedy, after ${length} tokens of a held-out book read by dense attention; ${passages} passages from seed ${seed} on.`,
    `Agreement: with each of the ${tokens} tokens that dense decoding writes, given those before, mean and least of passages; same until: where the text would first be another. Density: of a step, over all layers.`,
    `The whole run took ${seconds.toFixed(0)} s.`,
  ]
}
