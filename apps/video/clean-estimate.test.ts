import { expect, it } from 'vitest'
import { cleanEstimate } from './clean-estimate.js'

it('is x − t·v of the velocity of the step, and the end of the last step itself', () => {
  const [start, velocity] = [
    [0.5, -2, 3],
    [1, -0.25, 4],
  ]
  const at = (time: number) => ({
    time,
    latents: Float32Array.from(start!, (x, i) => x + (time - 1) * velocity![i]!),
  })
  // From noise at 1 to 0.75 along v: at 0 it would be noise − v.
  expect([...cleanEstimate(at(1), at(0.75))]).toEqual([-0.5, -1.75, -1])
  expect(cleanEstimate(at(0.75), at(0))).toEqual(at(0).latents)
})
