import { type HostBlockPlan, SparseAttentionError } from '@sparse-attention/core'
import { describe, expect, it } from 'vitest'
import { findPanels, headEnd, hex, pixels } from '../../test/picture-pixels.js'
import { planColors, planPicture } from './plan-picture.js'
import { textPath } from './text.js'

/** Two heads, four blocks of 64 tokens: the first keeps its diagonal and column 0, the second everything. */
const plan: HostBlockPlan = {
  kind: 'block',
  batch: 1,
  queryHeads: 2,
  queryLength: 256,
  keyLength: 256,
  blockQ: 64,
  blockK: 64,
  causal: true,
  bitmap: new Uint32Array([0b1, 0b11, 0b101, 0b1001, 0b1, 0b11, 0b111, 0b1111]),
}

const kept = hex(planColors.kept)

it('paints every block of a known plan in its colour', async () => {
  const image = await pixels(await planPicture({ title: 'test', rows: [{ label: 'Layer 3', plan }, { label: 'Layer 4', plan }] })) // biome-ignore format: short
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
  const image = await pixels(await planPicture({ title: 't', rows: [{ label: 'Layer 0', plan: wide }] }))
  let count = 0
  for (let y = headEnd; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) if (image.at(x, y) === kept) count++
  }
  expect(count).toBe(200 * 50)
})

it('gives the same bytes again', async () => {
  const picture = { title: 'again', subtitle: '1,024 tokens', rows: [{ label: 'Layer 0', plan }] }
  expect((await planPicture(picture)).equals(await planPicture(picture))).toBe(true)
})

describe('text', () => {
  it('shows the title', async () => {
    const [a, b] = await Promise.all(
      ['density 0.31', 'density 0.32'].map((title) => planPicture({ title, rows: [{ label: 'Layer 0', plan }] })),
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
  const error = await planPicture({ title: 'none', rows: [] }).catch((e: unknown) => e)
  expect(SparseAttentionError.is(error)).toBe(true)
})
