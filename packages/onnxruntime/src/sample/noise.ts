import { seededFractions } from '../generate/random.js'

/**
 * Standard normal noise (Box–Muller): what `sample` starts from with that seed, on every platform.
 *
 * @param seed an integer; its lower 32 bits count
 * @param count of numbers; fewer of a seed are the first of more
 */
export function gaussianNoise(seed: number, count: number): Float32Array<ArrayBuffer> {
  const fraction = seededFractions(seed)
  const noise = new Float32Array(count)
  for (let i = 0; i < count; i += 2) {
    // 1 − fraction lies in (0, 1], whose logarithm is finite.
    const radius = Math.sqrt(-2 * Math.log(1 - fraction()))
    const angle = 2 * Math.PI * fraction()
    noise[i] = radius * Math.cos(angle)
    if (i + 1 < count) noise[i + 1] = radius * Math.sin(angle)
  }
  return noise
}
