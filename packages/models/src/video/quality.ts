import { SparseAttentionError } from '@sparse-attention/core'
import type { Video } from './video.js'

/** What equal frames have, whose ratio has no end. */
const mostDecibels = 100

/**
 * Peak signal-to-noise ratio in dB: 10·log₁₀(1 / mean squared error) of each frame, at most 100, and of these the mean.
 *
 * @throws INVALID_SHAPE for videos of different sizes
 */
export function psnr(video: Video, reference: Video): number {
  checkSizes(video, reference)
  const size = video.height * video.width * 3
  let sum = 0
  for (let frame = 0; frame < video.frames; frame++) {
    let squares = 0
    for (let i = frame * size; i < (frame + 1) * size; i++) squares += (video.pixels[i]! - reference.pixels[i]!) ** 2
    sum += squares === 0 ? mostDecibels : Math.min(mostDecibels, -10 * Math.log10(squares / size))
  }
  return sum / video.frames
}

/** Pixels to each side of a window's centre: windows are 11×11, every pixel counts alike. */
const reach = 5
/** (0.01)² and (0.03)², of values from 0 to 1. */
const [c1, c2] = [1e-4, 9e-4]

/**
 * Structural similarity (Wang et al., 2004) with a uniform window of 11×11 and zeros beyond the edges, mean over pixels, channels
 * and frames: 1 for equal videos.
 *
 * @throws INVALID_SHAPE for videos of different sizes
 */
export function ssim(video: Video, reference: Video): number {
  checkSizes(video, reference)
  const { frames, height, width } = video
  let sum = 0
  for (let frame = 0; frame < frames; frame++) {
    for (let channel = 0; channel < 3; channel++) {
      const plane = (of: Video) =>
        Float64Array.from({ length: height * width }, (_, i) => of.pixels[(frame * height * width + i) * 3 + channel]!)
      const [x, y] = [plane(video), plane(reference)]
      const mean = (values: Float64Array) => windowMeans(values, height, width)
      const [mx, my] = [mean(x), mean(y)]
      const [xx, yy, xy] = [mean(x.map((v) => v * v)), mean(y.map((v) => v * v)), mean(x.map((v, i) => v * y[i]!))]
      for (let i = 0; i < x.length; i++) {
        const [a, b] = [mx[i]!, my[i]!]
        const [varianceX, varianceY, covariance] = [xx[i]! - a * a, yy[i]! - b * b, xy[i]! - a * b]
        sum += ((2 * a * b + c1) * (2 * covariance + c2)) / ((a * a + b * b + c1) * (varianceX + varianceY + c2))
      }
    }
  }
  return sum / (frames * height * width * 3)
}

/** Mean over the window around each value, zeros beyond the edges counted. */
function windowMeans(values: Float64Array, height: number, width: number): Float64Array {
  const rows = new Float64Array(values.length)
  const means = new Float64Array(values.length)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0
      for (let i = Math.max(0, x - reach); i <= Math.min(width - 1, x + reach); i++) sum += values[y * width + i]!
      rows[y * width + x] = sum
    }
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0
      for (let i = Math.max(0, y - reach); i <= Math.min(height - 1, y + reach); i++) sum += rows[i * width + x]!
      means[y * width + x] = sum / (2 * reach + 1) ** 2
    }
  }
  return means
}

function checkSizes(video: Video, reference: Video): void {
  const size = ({ frames, height, width }: Video) => `${frames} frames of ${width}×${height}`
  if (size(video) === size(reference)) return
  throw new SparseAttentionError('INVALID_SHAPE', {
    message: `A video of ${size(video)} was compared with one of ${size(reference)}.`,
    fix: 'Compare videos of one size.',
    where: 'video',
  })
}
