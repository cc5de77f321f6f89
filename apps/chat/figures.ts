import type { GenerationStatistics } from '@sparse-attention/onnxruntime'
import type { PaneToken } from './conversation.js'

/** What can be said of tokens that were written, also while more come. */
export interface Figures {
  readonly text: string
  /** From the end of the prompt's preparation to the first token; undefined before it. */
  readonly firstTokenMs: number | undefined
  /** Of the tokens after the first that were not looked into; undefined: there are none. */
  readonly tokensPerSecond: number | undefined
  /** Of the run that read the prompt, where it was looked into. */
  readonly reading: GenerationStatistics | undefined
  /** Of later runs that were looked into, by the token that they gave, counted from 0. */
  readonly writing: readonly { readonly at: number; readonly statistics: GenerationStatistics }[]
}

/** @param reading of a run of its own, where there was one */
export function figuresOf(written: readonly PaneToken[], reading?: GenerationStatistics): Figures {
  const [first, ...rest] = written
  const times = rest.filter(({ statistics }) => statistics === undefined).map(({ ms }) => ms)
  return {
    text: written.map(({ text }) => text).join(''),
    firstTokenMs: first?.ms,
    tokensPerSecond: times.length > 0 ? (1000 * times.length) / times.reduce((a, b) => a + b) : undefined,
    reading: first?.statistics ?? reading,
    writing: written.flatMap(({ statistics }, at) => (statistics && at > 0 ? [{ at, statistics }] : [])),
  }
}

/** Tokens that two texts begin with. */
export function samePrefix(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((token, i) => token !== b[i])
  return at < 0 ? a.length : at
}
