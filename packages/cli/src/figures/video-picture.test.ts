import type { Video } from '@sparse-attention/models'
import sharp from 'sharp'
import { expect, it } from 'vitest'
import { videoAnimation, videoStrip } from './video-picture.js'

/** Three frames of 4×2 pixels, each of one colour: red, green, blue, or turned round. */
function colours(first: number): Video {
  const at = (i: number) => (Math.floor(i / 24) + first) % 3
  return {
    frames: 3,
    height: 2,
    width: 4,
    pixels: Float32Array.from({ length: 72 }, (_, i) => (at(i) === i % 3 ? 1 : 0)),
  }
}
const picture = {
  title: 'Two videos',
  subtitle: 'of three frames',
  panels: [
    { label: 'dense', video: colours(0) },
    { label: 'sparse', detail: '30 dB', video: colours(1) },
  ],
}
const channel = (data: Buffer, width: number, x: number, y: number) =>
  [0, 1, 2].findIndex(
    (c) =>
      data[(y * width + x) * 3 + c]! > 200 && [0, 1, 2].every((o) => o === c || data[(y * width + x) * 3 + o]! < 90),
  )

it('animates the videos side by side, frame by frame', async () => {
  const webp = await videoAnimation(picture, { framesPerSecond: 10 })
  const { format, pages, delay, loop, pageHeight, width } = await sharp(webp, { animated: true }).metadata()
  expect({ format, pages, delay, loop }).toEqual({ format: 'webp', pages: 3, delay: [100, 100, 100], loop: 0 })
  const { data } = await sharp(webp, { animated: true }).removeAlpha().raw().toBuffer({ resolveWithObject: true })
  // 4 pixels are enlarged 60 times: the panels are 240×120, at the bottom.
  const y = pageHeight! - 20 - 60
  const seen = [0, 1, 2].map((page) => [100, 400].map((x) => channel(data, width!, x, page * pageHeight! + y)))
  expect(seen).toEqual([
    [0, 1],
    [1, 2],
    [2, 0],
  ])
})

it('lays frames out from the first to the last, one video below the other', async () => {
  const { data, info } = await sharp(await videoStrip(picture, 2))
    .raw()
    .toBuffer({ resolveWithObject: true })
  // 4 pixels are enlarged 24 times: frames are 96×48, 2 apart.
  const rows = [info.height - 20 - 48 - 14 - 40 - 24, info.height - 20 - 24]
  expect(rows.map((y) => [60, 160].map((x) => channel(data, info.width, x, y)))).toEqual([
    [0, 2],
    [1, 0],
  ])
})

it('refuses no videos, and videos of different sizes', async () => {
  const refused = { code: 'INVALID_ARGUMENT', where: 'panels' }
  await expect(videoStrip({ title: '', panels: [] })).rejects.toMatchObject(refused)
  const other = { label: '', video: { ...colours(0), frames: 1 } }
  await expect(videoAnimation({ title: '', panels: [...picture.panels, other] })).rejects.toMatchObject(refused)
})
