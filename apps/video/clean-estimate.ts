/** A point on the way of a rectified flow from noise (time 1) to data (time 0). */
export interface FlowPoint {
  readonly time: number
  readonly latents: Float32Array
}

/**
 * The estimate of the data that a step of a rectified flow has made: where its line from `before` to `after` meets time 0. It is
 * x − t·v of the velocity v that the model gave, found without running the model again.
 */
export function cleanEstimate(before: FlowPoint, after: FlowPoint): Float32Array<ArrayBuffer> {
  const reach = after.time / (before.time - after.time)
  return Float32Array.from(after.latents, (x, i) => x + reach * (x - before.latents[i]!))
}
