import { expect, it } from 'vitest'
import type { StepLook } from './look.js'
import type { MakeRequest, PaneStep } from './studio.js'
import { stepDensity, totals, type Videos, videoDensity, withStep } from './videos.js'

const layer = (keptPairs: number) => ({ layer: 0, keptPairs, visiblePairs: 100 }) as StepLook['layers'][number]
const step = (number: number, layers: StepLook['layers'], ms: number): PaneStep =>
  ({ pane: 'sparse', step: number, ms, evaluations: layers.length, look: { attentionMs: 2, layers } }) as PaneStep

it('counts what a reused step computes against what a whole one does', () => {
  let videos: Videos = { request: {} as MakeRequest, dense: [], sparse: [] }
  expect(videoDensity(videos)).toBeUndefined()
  for (const made of [step(0, [layer(100), layer(60)], 10), step(1, [layer(40)], 6), step(2, [], 1)])
    videos = withStep(videos, made)
  expect(videos.sparse.map((made) => stepDensity(made, videos))).toEqual([0.8, 0.2, 0])
  expect(videoDensity(videos)).toBeCloseTo(1 / 3, 12)
  expect(totals(videos.sparse)).toEqual({ ms: 17, attentionMs: 6, evaluations: 3 })

  const { look: _, ...blind } = step(0, [], 4)
  const unseen = withStep({ ...videos, sparse: [] }, blind)
  expect([totals(unseen.sparse).attentionMs, videoDensity(unseen)]).toEqual([undefined, undefined])
})
