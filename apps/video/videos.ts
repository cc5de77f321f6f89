import type { MakeRequest, PaneStep } from './studio.js'

/** Both videos of a request, as far as they have come. */
export interface Videos {
  readonly request: MakeRequest
  /** Step by step; the dense one is at most a step ahead. */
  readonly dense: readonly PaneStep[]
  readonly sparse: readonly PaneStep[]
}

export function withStep(videos: Videos, made: PaneStep): Videos {
  return { ...videos, [made.pane]: [...videos[made.pane], made] }
}

/** Query–key pairs computed ÷ all that a step has: a step that is reused in part computes fewer. */
export function stepDensity(step: PaneStep, videos: Videos): number | undefined {
  const seen = videos.sparse.map(
    ({ look }) => look?.layers.reduce((sum, { visiblePairs }) => sum + visiblePairs, 0) ?? 0,
  )
  const all = Math.max(...seen)
  if (!step.look || all === 0) return undefined
  return step.look.layers.reduce((sum, { keptPairs }) => sum + keptPairs, 0) / all
}

/** What a video has cost so far. */
export interface Totals {
  readonly ms: number
  /** Undefined where nobody looked. */
  readonly attentionMs: number | undefined
  readonly evaluations: number
}

export function totals(steps: readonly PaneStep[]): Totals {
  const sum = (of: (step: PaneStep) => number) => steps.reduce((total, step) => total + of(step), 0)
  const looked = steps.every(({ look }) => look)
  return {
    ms: sum(({ ms }) => ms),
    attentionMs: looked ? sum(({ look }) => look!.attentionMs) : undefined,
    evaluations: sum(({ evaluations }) => evaluations),
  }
}

/** Over the whole video: all steps have the same number of pairs. */
export function videoDensity(videos: Videos): number | undefined {
  const densities = videos.sparse.map((step) => stepDensity(step, videos))
  if (densities.length === 0 || densities.includes(undefined)) return undefined
  return densities.reduce<number>((sum, density) => sum + density!, 0) / densities.length
}
