import { readFile } from 'node:fs/promises'
import { parseScene, psnr, ssim, type Video } from '@sparse-attention/models/node'
import { ALL_FORMATS, BufferSource, Input } from 'mediabunny'
import type { Locator, Page } from 'playwright-core'
import sharp from 'sharp'
import { expect } from 'vitest'
import { expectAccessible, failure, saveScreenshot, tabTo, test, typeInto, withoutWebGpu } from '../test/page.js'
import { recordedRun } from '../test/recorded-run.js'
import type { LibraryRequest, RecordedVideo } from './library-run.js'

const pane = (page: Page, which: 'dense' | 'sparse') => page.getByTestId(which)
const figure = async (page: Page, id: string) => Number.parseFloat((await page.getByTestId(id).textContent())!)
const value = async (locator: Locator) => Number(await locator.getAttribute('data-value'))

/** A video as it was recorded, in 8 bits a colour. */
const videoOfRecord = ({ pixels, ...size }: RecordedVideo): Video => ({
  ...size,
  pixels: Float32Array.from(Buffer.from(pixels, 'base64'), (x) => x / 255),
})

/** What a canvas shows, without the alpha. */
async function pixels(canvas: Locator): Promise<{ width: number; height: number; rgb: number[] }> {
  return canvas.evaluate((element: HTMLCanvasElement) => {
    const { width, height } = element
    const { data } = element.getContext('2d')!.getImageData(0, 0, width, height)
    return { width, height, rgb: [...data].filter((_, i) => i % 4 !== 3) }
  })
}

/** Both videos as shown, frame by frame through the slider. */
async function shownVideos(page: Page): Promise<Record<'dense' | 'sparse', Video>> {
  const slider = page.getByRole('slider', { name: /^Frame/ })
  const frames = Number(await slider.getAttribute('max'))
  await slider.focus()
  await page.keyboard.press('Home')
  const shown = { dense: [] as number[], sparse: [] as number[] }
  let [width, height] = [0, 0]
  for (let frame = 1; frame <= frames; frame++) {
    await page.getByText(`Frame ${frame} of ${frames}`).waitFor()
    for (const which of ['dense', 'sparse'] as const) {
      const picture = await pixels(pane(page, which))
      ;({ width, height } = picture)
      shown[which].push(...picture.rgb)
    }
    await page.keyboard.press('ArrowRight')
  }
  const video = (bytes: number[]): Video => ({
    frames,
    width,
    height,
    pixels: Float32Array.from(bytes, (x) => x / 255),
  })
  return { dense: video(shown.dense), sparse: video(shown.sparse) }
}

const most = (a: Video, b: Video) => a.pixels.reduce((max, x, i) => Math.max(max, Math.abs(x - b.pixels[i]!)), 0)

async function exported(page: Page, format: string): Promise<Buffer> {
  await page.getByLabel('Format', { exact: true }).selectOption(format)
  await page.getByRole('button', { name: 'Make the file' }).click()
  const save = page.getByRole('button', { name: new RegExp(`^Save .*\\.${format}$`) })
  const [download] = await Promise.all([page.waitForEvent('download'), save.click()])
  expect(download.suggestedFilename()).toBe(`red-circle-down-left-side-by-side.${format}`)
  return readFile(await download.path())
}

/** Of a video file: as its tables say, and as the browser plays it at a time. */
async function played(page: Page, file: Buffer, type: string, seconds: number) {
  const input = new Input({ source: new BufferSource(file), formats: ALL_FORMATS })
  const track = (await input.getPrimaryVideoTrack())!
  const { packetCount } = await track.computePacketStats()
  const frame = await page.evaluate(
    async ([base64, type, seconds]) => {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))
      const video = document.createElement('video')
      video.preload = 'auto'
      video.src = URL.createObjectURL(new Blob([bytes], { type }))
      const event = (name: string) =>
        new Promise((resolve, reject) => {
          video.addEventListener(name, resolve, { once: true })
          video.addEventListener('error', () => reject(new Error(video.error?.message)), { once: true })
          setTimeout(() => reject(new Error(`The video has no ${name} in 20 s.`)), 20_000)
        })
      await event('loadeddata')
      video.currentTime = seconds
      await event('seeked')
      // The centres of what were pixels of the model.
      const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight)
      const context = canvas.getContext('2d')!
      context.drawImage(video, 0, 0)
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height)
      const rgb: number[] = []
      for (let y = 8; y < 256; y += 16) {
        for (let x = 8; x < 256; x += 16) rgb.push(...data.subarray((y * canvas.width + x) * 4).slice(0, 3))
      }
      return { rgb, size: [video.videoWidth, video.videoHeight], duration: video.duration }
    },
    [file.toString('base64'), type, seconds] as const,
  )
  const size = [await track.getCodedWidth(), await track.getCodedHeight()]
  return { packetCount, size, duration: await input.computeDuration(), frame }
}

/** Holds models back until it is called. */
async function holdModels(page: Page): Promise<() => void> {
  let letGo = () => {}
  const held = new Promise<void>((resolve) => {
    letGo = resolve
  })
  await page.route(/\.onnx$/, async (route) => {
    await held
    await route.continue().catch(() => {}) // the one that was cancelled
  })
  return letGo
}

// One page for everything: each start of a worker compiles for many seconds on a CPU.
test('after a load that was cancelled, a lost device and no memory makes the videos of the library from the keyboard, shows what is skipped, saves them, cancels, and reuses steps', {
  timeout: 400_000,
}, async ({ app }) => {
  const scene = parseScene('red circle down left')
  const request: LibraryRequest = { scene, steps: 2, guidance: 2, seed: 7, threshold: 0 }
  const file = new URL('library-run.json', import.meta.url)
  const recorded = await recordedRun(file, request, async () => (await import('./library-run.js')).libraryRun)
  const letGo = await holdModels(app.page)
  const page = await app.open('video/?fault=out-of-memory')
  page.setDefaultTimeout(120_000)
  await page.emulateMedia({ reducedMotion: 'reduce' })
  await page.getByText(/^Loading the model/).waitFor()
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByTestId('job-cancelled').waitFor()
  letGo()
  await page.getByRole('button', { name: 'Load the model' }).click()
  const make = page.getByRole('button', { name: 'Make both videos' })
  await make.waitFor()
  expect(await page.getByLabel('Steps', { exact: true }).inputValue()).toBe('4') // what suits a software adapter

  await typeInto(page, 'Scene', 'red circle down sideways')
  await page.getByText('is no scene').waitFor()
  await typeInto(page, 'Scene', 'red circle down left')
  await typeInto(page, 'Seed', '7')
  await typeInto(page, 'Steps', '2')
  await typeInto(page, 'Guidance', '2')
  await tabTo(page, 'Options of LiteAttention')
  await page.keyboard.press('Enter')
  await typeInto(page, 'threshold', '0')
  await page.keyboard.press('Enter')
  expect(await failure(page, 'OUT_OF_MEMORY')).toContain('Choose smaller sizes')
  await tabTo(page, 'Make both videos')
  await page.keyboard.press('Enter')
  await page.getByText('Denoising', { exact: true }).waitFor()
  await app.crashGpu()
  await failure(page, 'DEVICE_LOST')
  await tabTo(page, 'Start again')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'After 1 of 2 steps' }).waitFor()
  const early = await pixels(pane(page, 'sparse'))
  await page.getByRole('heading', { name: 'The finished videos' }).waitFor()

  const library = { dense: videoOfRecord(recorded.dense), sparse: videoOfRecord(recorded.sparse) }
  const shown = await shownVideos(page)
  // The same sums in another order, two steps of them, and colours in steps of 1/255 on both sides.
  expect(most(shown.dense, library.dense)).toBeLessThan(1.5 / 255)
  // Blocks whose scores lie at the threshold may be kept here and skipped there.
  expect(psnr(shown.sparse, library.sparse)).toBeGreaterThan(30)
  expect(await figure(page, 'psnr')).toBeCloseTo(psnr(shown.sparse, shown.dense), 2)
  expect(await figure(page, 'ssim')).toBeCloseTo(ssim(shown.sparse, shown.dense), 4)
  const density = recorded.densities.reduce((sum, each) => sum + each, 0) / request.steps
  expect(density).toBeLessThan(0.99) // one of the two steps skips some blocks of 64 × 64
  expect((await figure(page, 'density')) / 100).toBeCloseTo(density, 2)
  expect(await page.getByTestId('evaluations').textContent()).toBe('4 and 4')

  // The heads' maps have the density that the plan counts for the layer, and as many cells in the colour of what is kept.
  let [layer, layerDensity] = [0, 1]
  for (; layerDensity === 1; layer++) {
    await page.getByLabel('Layer', { exact: true }).selectOption({ value: String(layer) })
    await page.getByRole('img', { name: `layer ${layer + 1}, head 1` }).waitFor()
    layerDensity = await value(page.getByTestId('layer-density'))
  }
  const heads: number[] = []
  for (const head of ['0', '1', '2', '3']) {
    await page.getByLabel('Head', { exact: true }).selectOption({ value: head })
    await page.getByRole('img', { name: `layer ${layer}, head ${Number(head) + 1}` }).waitFor()
    const density = await value(page.getByTestId('head-density'))
    const kept = await page.getByTestId('skip-map').evaluate((canvas: HTMLCanvasElement) => {
      const colour = getComputedStyle(canvas).getPropertyValue('--plan-kept').trim()
      const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height)
      const hex = (i: number) => `#${[...data.subarray(i, i + 3)].map((x) => x.toString(16).padStart(2, '0')).join('')}`
      let count = 0
      for (let i = 0; i < data.length; i += 4) if (hex(i) === colour) count++
      return count / (data.length / 4)
    })
    expect(kept).toBeCloseTo(density, 10) // every cell is a block of 64 × 64
    heads.push(density)
  }
  expect(heads.reduce((sum, each) => sum + each, 0) / 4).toBeCloseTo(layerDensity, 10)

  // The first step again: an estimate that is not the video yet, and nothing skipped before anything was seen.
  await page.getByRole('slider', { name: /^Step/ }).focus()
  await page.keyboard.press('Home')
  await page.getByRole('img', { name: /LiteAttention, after step 1 of 2/ }).waitFor()
  expect((await pixels(pane(page, 'sparse'))).rgb).toHaveLength(early.rgb.length)
  expect(await value(page.getByTestId('layer-density'))).toBe(1)
  const first = await shownVideos(page)
  expect(psnr(first.sparse, first.dense)).toBeGreaterThan(60) // the same but for the order of sums
  expect(psnr(first.dense, shown.dense)).toBeLessThan(40)
  await page.getByRole('slider', { name: /^Step/ }).focus()
  await page.keyboard.press('End')
  await page.getByRole('img', { name: /LiteAttention, after step 2 of 2/ }).waitFor()

  // 8 frames at 8 a second, three times; frame 6 of the second round.
  for (const [format, type] of [
    ['mp4', 'video/mp4'],
    ['webm', 'video/webm'],
  ] as const) {
    const file = await played(page, await exported(page, format), type, 1 + 5.5 / 8)
    expect([format, file.packetCount, ...file.size]).toEqual([format, 24, 528, 288])
    expect(file.duration).toBeCloseTo(3, 2)
    expect(file.frame.size).toEqual([528, 288])
    expect(file.frame.duration).toBeCloseTo(3, 2)
    const exact = shown.dense.pixels.subarray(5 * 768, 6 * 768)
    const error = file.frame.rgb.reduce((sum, x, i) => sum + Math.abs(x - 255 * exact[i]!), 0) / 768
    expect(error).toBeLessThan(6) // of 255: what the codec loses, mostly in colour
  }
  const picture = sharp(await exported(page, 'png'))
  const { data, info } = await picture.removeAlpha().raw().toBuffer({ resolveWithObject: true })
  expect([info.width, info.height]).toEqual([528, 8 * 288])
  // Of frame 4, the pixel in row 5 and column 10.
  const at = ((3 * 288 + 4 * 16 + 8) * 528 + 9 * 16 + 8) * 3
  const exact = shown.dense.pixels.subarray(((3 * 16 + 4) * 16 + 9) * 3).slice(0, 3)
  expect([...data.subarray(at, at + 3)]).toEqual([...exact].map((x) => Math.round(255 * x)))

  await expectAccessible(page)
  await page.evaluate(() => scrollTo(0, 0))
  await saveScreenshot(page, 'video')

  await page.getByLabel('Guidance', { exact: true }).fill('1')
  await page.getByLabel('Steps', { exact: true }).fill('3')
  await page.getByLabel('Step cache').check()
  await page.getByLabel('Change up to which').fill('10')
  await make.click()
  await page.getByRole('heading', { name: 'After 1 of 3 steps' }).waitFor()
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByTestId('job-cancelled').waitFor()
  expect(await page.getByRole('heading', { name: 'The finished videos' }).count()).toBe(0)

  await make.click()
  await page.getByRole('heading', { name: 'The finished videos' }).waitFor()
  // The first step and the last one are always evaluated.
  expect(await page.getByTestId('evaluations').textContent()).toBe('3 and 2')
  await page.getByRole('slider', { name: /^Step/ }).focus()
  await page.keyboard.press('ArrowLeft')
  await page.getByText('the step cache reused an earlier answer').waitFor()
})

test('without WebGPU the page says so', async ({ app }) => {
  await withoutWebGpu(app.context)
  const page = await app.open('video/')
  await page.getByTestId('missing-gpu').waitFor()
})
