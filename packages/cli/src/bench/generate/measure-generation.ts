import { mean, median } from '@sparse-attention/compare'
import type { OptionValue } from '@sparse-attention/core'
import type { HostTimes } from '@sparse-attention/onnxruntime'
import type { DecodeMeter, TextQuality } from '../../demo/decode-quality.js'
import { medianHostTimes } from '../../demo/host-times.js'

/** What is left of dense decoding with a method in its place, over passages and needles. */
export interface GenerationResult {
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  /** Kept keys ÷ those so far, over layers, heads and passages; null: no passage was read. */
  readonly density: number | null
  /** Of each passage: share of the dense text's tokens that the method would write too. */
  readonly agreement: readonly number[]
  /** Of each passage: tokens before its own text would be another. */
  readonly samePrefix: readonly number[]
  /** Prompts whose whole answer was written. */
  readonly needles: number
  /** Median of a step, over passages. */
  readonly tokenMs: number | null
  /** Where the host's time for a step went, likewise. */
  readonly hostTimes: HostTimes | null
}

export interface GenerationPlan {
  readonly meter: DecodeMeter
  /** Dense first. */
  readonly methods: readonly { readonly method: string; readonly options: GenerationResult['options'] }[]
  readonly passages: number
  readonly needles: number
  /** Of the first passage and the first needle; the others follow. */
  readonly seed: number
  /** After each passage and needle: what is known by then, of how many of each. */
  readonly onResults: (found: GenerationFound) => Promise<void>
}

export interface GenerationFound {
  readonly passages: number
  readonly needles: number
  readonly results: readonly GenerationResult[]
}

/** Passages and needles in turn, so that what is known so far is a fair comparison whenever it ends. */
export async function measureGeneration(plan: GenerationPlan): Promise<GenerationFound> {
  const { meter, methods, seed, onResults } = plan
  const texts: TextQuality[][] = []
  const correct = methods.map(() => 0)
  let needles = 0
  const found = (): GenerationFound => ({
    passages: texts.length,
    needles,
    results: methods.map((method, i) => ({
      ...method,
      density: texts.length === 0 ? null : mean(texts.map((of) => of[i]!.density)),
      agreement: texts.map((of) => of[i]!.agreement),
      samePrefix: texts.map((of) => of[i]!.samePrefix),
      needles: correct[i]!,
      tokenMs: texts.length === 0 ? null : median(texts.map((of) => of[i]!.tokenMs)),
      hostTimes: texts.length === 0 ? null : medianHostTimes(texts.map((of) => of[i]!.hostTimes)),
    })),
  })
  for (let i = 0; i < Math.max(plan.passages, plan.needles); i++) {
    if (i < plan.needles) {
      for (const [m, right] of (await meter.needle(seed + i)).entries()) if (right) correct[m]!++
      needles++
      await onResults(found())
    }
    if (i < plan.passages) {
      texts.push(await meter.text(seed + i))
      await onResults(found())
    }
  }
  return found()
}
