import { type HostBlockPlan, SparseAttentionError } from '@sparse-attention/core'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { planColors, planPicture } from './plan-picture.js'
import { textPath } from './text.js'

/** Two heads, four blocks of 64 tokens: the first keeps its diagonal and column 0, the second everything. */
const plan: HostBlockPlan = {
  batch: 1,
  queryHeads: 2,
  queryLength: 256,
  keyLength: 256,
  blockQ: 64,
  blockK: 64,
  causal: true,
  bitmap: new Uint32Array([0b1, 0b11, 0b101, 0b1001, 0b1, 0b11, 0b111, 0b1111]),
}

interface Pixels {
  readonly width: number
  readonly height: number
  /** 0xRRGGBB */
  at(x: number, y: number): number
}

async function pixels(png: Buffer): Promise<Pixels> {
  const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true })
  expect(info.channels).toBe(3)
  return { width: info.width, height: info.height, at: (x, y) => data.readUIntBE((y * info.width + x) * 3, 3) }
}

const hex = ([r, g, b]: readonly [number, number, number]): number => (r << 16) | (g << 8) | b
const kept = hex(planColors.kept)
const frame = 0x5c6773
/** Where the title and the legend end, which has a swatch of every colour. */
const headEnd = 90

/** Left upper corners of the panels, where the first block stands: kept, with nothing kept above or to the left. */
function findPanels({ width, height, at }: Pixels): [number, number][] {
  const corners: [number, number][] = []
  for (let y = headEnd; y < height; y++) {
    for (let x = 1; x < width; x++) {
      if (at(x, y) === kept && at(x - 1, y) !== kept && at(x, y - 1) !== kept && at(x - 1, y - 1) === frame) {
        corners.push([x, y])
      }
    }
  }
  return corners
}

it('paints every block of a known plan in its colour', async () => {
  const image = await pixels(await planPicture({ title: 'test', layers: [{ layer: 3, plan }, { layer: 4, plan }] })) // biome-ignore format: short
  const cell = 50 // 200 pixels for 256 tokens
  const corners = findPanels(image)
  expect(corners).toHaveLength(4)
  const expected = [
    ['k...', 'kk..', 'ksk.', 'kssk'],
    ['k...', 'kk..', 'kkk.', 'kkkk'],
  ]
  const name = { k: 'kept', s: 'skipped', '.': 'invisible' } as const
  for (const [panel, [x, y]] of corners.entries()) {
    for (const [a, row] of expected[panel % 2]!.entries()) {
      for (const [c, state] of [...row].entries()) {
        const colour = hex(planColors[name[state as keyof typeof name]])
        for (const [dx, dy] of [
          [0, 0],
          [cell - 1, cell - 1],
        ] as const) {
          // biome-ignore format: short
          expect(image.at(x + c * cell + dx, y + a * cell + dy), `panel ${panel}, block ${a},${c}`).toEqual(colour)
        }
      }
    }
  }
})

it('keeps the shape of an attention with more keys than queries', async () => {
  const wide: HostBlockPlan = { ...plan, queryHeads: 1, queryLength: 64, bitmap: new Uint32Array([0b1111]) }
  const image = await pixels(await planPicture({ title: 't', layers: [{ layer: 0, plan: wide }] }))
  let count = 0
  for (let y = headEnd; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) if (image.at(x, y) === kept) count++
  }
  expect(count).toBe(200 * 50)
})

it('gives the same bytes again', async () => {
  const picture = { title: 'again', subtitle: '1,024 tokens', layers: [{ layer: 0, plan }] }
  expect((await planPicture(picture)).equals(await planPicture(picture))).toBe(true)
})

describe('text', () => {
  it('shows the title', async () => {
    const [a, b] = await Promise.all(
      ['density 0.31', 'density 0.32'].map((title) => planPicture({ title, layers: [{ layer: 0, plan }] })),
    )
    expect(a!.equals(b!)).toBe(false)
  })

  it('has a glyph for every character that labels use', () => {
    const draw = (character: string) => textPath(character, 0, 0, { size: 10, fill: 'black' })
    const missing = draw('\u{10FFFF}')
    for (const character of '0123456789.,:;=×·–%()abcxyzABCXYZ') expect(draw(character), character).not.toBe(missing)
  })
})

it('refuses a picture of nothing', async () => {
  const error = await planPicture({ title: 'none', layers: [] }).catch((e: unknown) => e)
  expect(SparseAttentionError.is(error)).toBe(true)
})
