import { formatTable } from '../../table.js'
import { formatMethod } from '../format.js'
import { markdownTable } from '../markdown.js'
import type { GenerationResult } from './measure-generation.js'

const head = ['method', 'recorded', 'pieces', 'each', 'attentions', 'each', 'logits', 'ms together']

/** Where the host's time for a token goes, for people. Empty where no text was written. */
export function formatHostTimes(results: readonly GenerationResult[]): string {
  const rows = rowsOf(results)
  return rows.length === 0 ? '' : formatTable([head, ...rows], new Set([2, 4, 6, 7]))
}

export function hostTimesMarkdown(results: readonly GenerationResult[]): string {
  const rows = rowsOf(results)
  if (rows.length === 0) return ''
  const note = 'ms on the host, medians, of each piece of onnxruntime-web and of the attentions behind each, in order.'
  return ["## Where the host's time goes", '', markdownTable(head, rows, new Set([0, 1, 3, 5])), '', note, ''].join(
    '\n',
  )
}

function rowsOf(results: readonly GenerationResult[]): string[][] {
  return results.flatMap(({ method, options, hostTimes }) => {
    if (!hostTimes) return []
    const { captured, piecesMs, attentionsMs, logitsMs } = hostTimes
    const [pieces, attentions] = [sum(piecesMs), sum(attentionsMs)]
    return [
      [
        formatMethod(method, options),
        captured ? 'yes' : 'no',
        ms(pieces),
        piecesMs.map(ms).join(', '),
        ms(attentions),
        attentionsMs.map(ms).join(', '),
        ms(logitsMs),
        ms(pieces + attentions + logitsMs),
      ],
    ]
  })
}

function ms(value: number): string {
  return value.toFixed(2)
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
