import { describe, expect, it } from 'vitest'
import { type Picture, preprocess, seenPart } from './preprocess.js'

const plain = { mean: [0, 0, 0], std: [1, 1, 1] } as const

function picture(width: number, height: number, level: (x: number, y: number, channel: number) => number): Picture {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const pixel = Math.floor(i / 3)
    return level(pixel % width, Math.floor(pixel / width), i % 3)
  })
  return { width, height, channels: 3, data }
}

/** The meaning: both axes at once, over every pixel of the picture, weights from the filter's formula. */
function byFormula({ width, height, data }: Picture, shorter: number, size: number): number[] {
  const cubic = (d: number) => {
    const x = Math.abs(d)
    return x < 1 ? 1.5 * x ** 3 - 2.5 * x ** 2 + 1 : x < 2 ? -0.5 * x ** 3 + 2.5 * x ** 2 - 4 * x + 2 : 0
  }
  const factor = shorter / Math.min(width, height)
  const [w, h] = [Math.round(width * factor), Math.round(height * factor)]
  const weights = (from: number, to: number, at: number) => {
    const stretch = Math.max(1, from / to)
    const all = Array.from({ length: from }, (_, i) => cubic((i + 0.5 - (at + 0.5) * (from / to)) / stretch))
    const sum = all.reduce((a, b) => a + b)
    return all.map((weight) => weight / sum)
  }
  return Array.from({ length: 3 * size * size }, (_, i) => {
    const [channel, y, x] = [Math.floor(i / size / size), Math.floor(i / size) % size, i % size]
    const across = weights(width, w, x + Math.floor((w - size) / 2))
    const down = weights(height, h, y + Math.floor((h - size) / 2))
    let sum = 0
    for (let v = 0; v < height; v++) {
      for (let u = 0; u < width; u++) sum += down[v]! * across[u]! * data[(v * width + u) * 3 + channel]!
    }
    return Math.min(255, Math.max(0, sum)) / 255
  })
}

/** As the comment of its test says, by Pillow 12.3. */
const PILLOW = [10.335076332092285, 71.08938598632812, 63.000999450683594, 159.063720703125]

const noise = (x: number, y: number, channel: number) => ((x * 7919 + y * 104_729 + channel * 31) % 257) % 256

describe('preprocess', () => {
  it.each([
    [37, 23, 12, 8],
    [23, 37, 12, 12],
    [5, 4, 9, 8], // made larger
    [16, 16, 16, 10], // only cut
    [90, 1, 3, 3],
  ])('scales %i × %i to %i on the shorter side and cuts out %i', (width, height, resizeShorter, imageSize) => {
    const given = picture(width, height, noise)
    const pixels = preprocess(given, { ...plain, resizeShorter, imageSize })
    const wanted = byFormula(given, resizeShorter, imageSize)
    expect(pixels).toHaveLength(3 * imageSize ** 2)
    // Both are float64 sums of at most 200 products in another order, stored as f32.
    for (const [i, value] of wanted.entries()) expect(pixels[i]).toBeCloseTo(value, 6)
  })

  it('gives what Pillow gives: a 4 × 3 picture at 2 × 2', () => {
    // Image.fromarray(float32 [[0, 50, 100, 250], [10, 60, 110, 200], [20, 255, 120, 30]]).resize((3, 2), BICUBIC), columns 0 and 1
    const levels = [0, 50, 100, 250, 10, 60, 110, 200, 20, 255, 120, 30]
    const given = picture(4, 3, (x, y) => levels[y * 4 + x]!)
    const pixels = preprocess(given, { ...plain, resizeShorter: 2, imageSize: 2 })
    for (const [i, value] of PILLOW.entries()) expect(pixels[i]! * 255).toBeCloseTo(value, 3) // Pillow prints f32
  })

  it('takes the mean off and divides by the deviation, channel by channel', () => {
    const given = picture(4, 4, (_x, _y, channel) => [255, 0, 51][channel]!)
    const pixels = preprocess(given, { mean: [0.5, 0.25, 0.2], std: [0.25, 0.5, 0.1], resizeShorter: 2, imageSize: 1 })
    expect(Array.from(pixels, (value) => Math.round(value * 1e5) / 1e5 || 0)).toEqual([2, -0.5, 0])
  })

  it('puts what is transparent over white, and reads opaque RGBA as RGB', () => {
    const rgb = picture(9, 7, noise)
    const rgba = (alpha: number) => {
      const data = new Uint8ClampedArray(9 * 7 * 4).fill(alpha)
      for (let i = 0; i < data.length; i++) if (i % 4 < 3) data[i] = rgb.data[Math.floor(i / 4) * 3 + (i % 4)]!
      return { ...rgb, channels: 4, data } as const
    }
    const config = { ...plain, resizeShorter: 6, imageSize: 5 }
    expect(preprocess(rgba(255), config)).toEqual(preprocess(rgb, config))
    // Weights of a row sum to 1 up to rounding.
    for (const value of preprocess(rgba(0), config)) expect(value).toBeCloseTo(1, 6)
  })

  it.each<Partial<Picture>>([
    { width: 3 },
    { height: 0 },
    { width: 4.5 },
    { channels: 4 },
    { channels: 1 as never },
    { data: new Uint8Array() },
  ])('refuses %o', (change) => {
    const config = { ...plain, resizeShorter: 3, imageSize: 2 }
    expect(() => preprocess({ ...picture(4, 4, noise), ...change }, config)).toThrow(
      expect.objectContaining({ code: 'INVALID_SHAPE', where: 'picture' }),
    )
  })
})

describe('seenPart', () => {
  it('is the middle, in pixels of the picture', () => {
    const seen = seenPart({ width: 600, height: 352 }, { imageSize: 160, resizeShorter: 176 })
    expect(seen).toEqual({ left: 140, top: 16, width: 320, height: 320 })
  })
})
