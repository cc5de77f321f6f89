import type { ImageClassifierConfig } from '@sparse-attention/models'
import type { Answer, RoutingSettings } from './photo-classifier.js'
import type { ClassifyResult } from './worker.js'

/** What was found, as JSON for other programs: logits of all classes, and the routes of each layer that was looked at. */
export function reportData(
  photo: string,
  settings: RoutingSettings,
  { width, height, seen, routed, dense, layers, timedRuns, device }: ClassifyResult,
  { classes }: ImageClassifierConfig,
): string {
  const answer = ({ logits, modelMs, attentionMs }: Answer) => ({ modelMs, attentionMs, logits: Array.from(logits) })
  return JSON.stringify({
    model: 'kestrel-3m',
    photo: { name: photo, width, height, seen },
    settings,
    classes,
    routed: answer(routed),
    ...(dense && { dense: answer(dense) }),
    layers: layers.map(({ layer, grid, down, across, heads, density, attentionMs, routes, mass }) => ({
      ...{ layer, grid, regions: [down, across], heads, density, attentionMs },
      routes: routes && routesByRegion(routes, down * across),
      mass: Array.from(mass),
    })),
    timedRuns,
    device,
  })
}

/** [heads that route][regions]: regions attended to. */
function routesByRegion(
  { heads, topK, indices }: { heads: number; topK: number; indices: Int32Array },
  count: number,
): number[][][] {
  return Array.from({ length: heads }, (_, head) =>
    Array.from({ length: count }, (_, region) => {
      const first = (head * count + region) * topK
      return Array.from(indices.subarray(first, first + topK)).filter((each) => each >= 0)
    }),
  )
}
