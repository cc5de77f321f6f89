import { expect, it } from 'vitest'
import { exportVideo } from './export-video.js'
import { layoutOf, type Panel } from './layout.js'

const panel = (width: number, height: number): Panel => {
  const frames = { count: 2, width, height, pixels: new Uint8ClampedArray(2 * width * height * 4) }
  return { label: 'dense', frames }
}

it.each([
  [16, 16, 16, 528, 288],
  [32, 32, 8, 528, 288],
  [64, 64, 4, 528, 288],
  [48, 48, 6, 592, 320],
  [300, 10, 2, 1216, 52],
])('enlarges panels of %d × %d by %d, to an even picture of %d × %d', (width, height, scale, ...size) => {
  const layout = layoutOf([panel(width, height), panel(width, height)])
  expect([layout.scale, layout.width, layout.height]).toEqual([scale, ...size])
  expect(layout.panels.map(({ left }) => left)).toEqual([0, width * scale + 16])
})

it.each(['mp4', 'webm'] as const)('says so where nothing encodes video for %s', async (format) => {
  const request = { panels: [panel(16, 16)], format, framesPerSecond: 8, repeats: 1 }
  // Node has no WebCodecs.
  await expect(exportVideo(request, { signal: new AbortController().signal, onFrame: () => {} })).rejects.toMatchObject(
    { code: 'UNSUPPORTED', where: 'format', fix: expect.stringContaining('PNG') },
  )
})
