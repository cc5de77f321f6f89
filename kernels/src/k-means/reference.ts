import { segmentedMeanReference } from '../segmented-mean/reference.js'

/** |c|² − 2 x·c for every row and centroid, in float64. */
function distances(x: ArrayLike<number>, centroids: ArrayLike<number>, headDim: number): number[][] {
  const rows = x.length / headDim
  const clusters = centroids.length / headDim
  return Array.from({ length: rows }, (_, i) =>
    Array.from({ length: clusters }, (_, c) => {
      let distance = 0
      for (let d = 0; d < headDim; d++) {
        const center = centroids[c * headDim + d]!
        distance += center * center - 2 * x[i * headDim + d]! * center
      }
      return distance
    }),
  )
}

/** Nearest centroids of the rows of one head, ties to the lower index, and by how much the second nearest is farther. */
export function nearestCentroidReference(
  x: ArrayLike<number>,
  centroids: ArrayLike<number>,
  headDim: number,
): { labels: number[]; gaps: number[] } {
  const all = distances(x, centroids, headDim)
  const labels = all.map((row) => row.indexOf(Math.min(...row)))
  const gaps = all.map((row, i) => Math.min(...row.filter((_, c) => c !== labels[i])) - row[labels[i]!]!)
  return { labels, gaps }
}

export interface KMeansAnswer {
  readonly labels: readonly number[]
  readonly sizes: readonly number[]
  readonly centroids: Float64Array
}

/** k-means of the rows of one head, contiguous [L, D], from given centroids; an empty cluster keeps its centroid. */
export function kMeansReference(
  x: ArrayLike<number>,
  start: ArrayLike<number>,
  headDim: number,
  iterations: number,
): KMeansAnswer {
  let centroids = Float64Array.from(start)
  let labels: number[] = []
  let members: number[][] = []
  for (let i = 0; i < iterations; i++) {
    labels = nearestCentroidReference(x, centroids, headDim).labels
    members = Array.from({ length: start.length / headDim }, (_, c) => {
      return labels.flatMap((label, row) => (label === c ? [row] : []))
    })
    centroids = segmentedMeanReference(x, headDim, members, centroids) as Float64Array<ArrayBuffer>
  }
  return { labels, sizes: members.map((rows) => rows.length), centroids }
}
