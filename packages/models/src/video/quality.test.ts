import { Random } from '@sparse-attention/core'
import { describe, expect, it } from 'vitest'
import { psnr, ssim } from './quality.js'
import type { Video } from './video.js'

function video(frames: number, height: number, width: number, pixel: (at: number) => number): Video {
  return {
    frames,
    height,
    width,
    pixels: Float32Array.from({ length: frames * height * width * 3 }, (_, i) => pixel(i)),
  }
}
const refused = expect.objectContaining({ code: 'INVALID_SHAPE' })

describe('psnr', () => {
  it('is the mean over frames in dB, and 100 for equal ones', () => {
    const black = video(2, 4, 4, () => 0)
    expect(psnr(black, black)).toBe(100)
    // The second frame is off by 0.5 in every fourth value: an error of 1/16, 12.04 dB.
    const other = video(2, 4, 4, (i) => (i >= 48 && i % 4 === 0 ? 0.5 : 0))
    expect(psnr(other, black)).toBeCloseTo((100 + 10 * Math.log10(16)) / 2, 9)
    expect(() =>
      psnr(
        black,
        video(1, 8, 4, () => 0),
      ),
    ).toThrow(refused)
  })
})

describe('ssim', () => {
  /** The definition, window by window. */
  function plain(a: Video, b: Video): number {
    const at = ({ pixels, height, width }: Video, f: number, y: number, x: number, c: number) =>
      y < 0 || x < 0 || y >= height || x >= width ? 0 : pixels[((f * height + y) * width + x) * 3 + c]!
    let sum = 0
    for (let f = 0; f < a.frames; f++)
      for (let y = 0; y < a.height; y++)
        for (let x = 0; x < a.width; x++)
          for (let c = 0; c < 3; c++) {
            const pairs = Array.from({ length: 121 }, (_, i) => {
              const [dy, dx] = [Math.floor(i / 11) - 5, (i % 11) - 5]
              return [at(a, f, y + dy, x + dx, c), at(b, f, y + dy, x + dx, c)] as const
            })
            const mean = (of: (pair: readonly [number, number]) => number) =>
              pairs.reduce((s, pair) => s + of(pair), 0) / 121
            const [p, q] = [mean(([u]) => u), mean(([, v]) => v)]
            const [vp, vq] = [mean(([u]) => (u - p) ** 2), mean(([, v]) => (v - q) ** 2)]
            const cov = mean(([u, v]) => (u - p) * (v - q))
            sum +=
              ((2 * p * q + 0.01 ** 2) * (2 * cov + 0.03 ** 2)) / ((p * p + q * q + 0.01 ** 2) * (vp + vq + 0.03 ** 2))
          }
    return sum / a.pixels.length
  }

  it('is that of the definition, window by window, and 1 for equal videos', () => {
    const random = new Random(3)
    const a = video(2, 9, 14, () => random.fraction())
    const b = { ...a, pixels: a.pixels.map((v) => 0.8 * v + 0.2 * random.fraction()) }
    // Both are float64 sums of 121 terms, in another order.
    expect(ssim(b, a)).toBeCloseTo(plain(b, a), 12)
    expect(ssim(b, a)).toBeLessThan(0.99)
    expect(ssim(a, a)).toBeCloseTo(1, 12)
    expect(() =>
      ssim(
        a,
        video(2, 14, 9, () => 0),
      ),
    ).toThrow(refused)
  })
})
