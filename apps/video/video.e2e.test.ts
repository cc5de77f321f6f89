import { parseScene, psnr, ssim, type Video } from '@sparse-attention/models/node'
import type { Locator, Page } from 'playwright-core'
import { expect } from 'vitest'
import { test, withoutWebGpu } from '../test/page.js'
import { libraryRun } from './library-run.js'

const pane = (page: Page, which: 'dense' | 'sparse') => page.getByTestId(which)
const figure = async (page: Page, id: string) => Number.parseFloat((await page.getByTestId(id).textContent())!)

/** Presses Tab until the control with this label has the focus. */
async function tabTo(page: Page, name: string): Promise<void> {
  for (let i = 0; i < 80; i++) {
    const focused = await page.evaluate(() => {
      const element = document.activeElement as HTMLInputElement | null
      return element?.labels?.[0]?.textContent ?? element?.textContent
    })
    if (focused?.startsWith(name)) return
    await page.keyboard.press('Tab')
  }
  throw new Error(`Tab does not reach ${name}.`)
}

async function type(page: Page, name: string, text: string): Promise<void> {
  await tabTo(page, name)
  await page.keyboard.press('ControlOrMeta+a')
  await page.keyboard.type(text)
}

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

test('makes the videos of the library from the keyboard, and says how they compare', {
  timeout: 180_000,
}, async ({ app }) => {
  const request = { scene: parseScene('red circle down left'), steps: 2, guidance: 2, seed: 7, threshold: 0 }
  const page = await app.open('video/')
  page.setDefaultTimeout(90_000)
  await page.emulateMedia({ reducedMotion: 'reduce' })
  await page.getByRole('button', { name: 'Make both videos' }).waitFor()
  expect(await page.getByLabel('Steps', { exact: true }).inputValue()).toBe('4') // what suits a software adapter

  await type(page, 'Scene', 'red circle down sideways')
  await page.getByText('is no scene').waitFor()
  await type(page, 'Scene', 'red circle down left')
  await type(page, 'Seed', '7')
  await type(page, 'Steps', '2')
  await type(page, 'Guidance', '2')
  await tabTo(page, 'Options of LiteAttention')
  await page.keyboard.press('Enter')
  await type(page, 'threshold', '0')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'After 1 of 2 steps' }).waitFor()
  await page.getByRole('heading', { name: 'The finished videos' }).waitFor()

  const library = await libraryRun(request)
  const shown = await shownVideos(page)
  // The same sums in another order, two steps of them, and colours in steps of 1/255.
  expect(most(shown.dense, library.dense)).toBeLessThan(1.5 / 255)
  // Blocks whose scores lie at the threshold may be kept here and skipped there.
  expect(psnr(shown.sparse, library.sparse)).toBeGreaterThan(30)
  expect(await figure(page, 'psnr')).toBeCloseTo(psnr(shown.sparse, shown.dense), 2)
  expect(await figure(page, 'ssim')).toBeCloseTo(ssim(shown.sparse, shown.dense), 4)
  const density = library.densities.reduce((sum, each) => sum + each, 0) / request.steps
  expect(density).toBeLessThan(0.99) // one of the two steps skips some blocks of 64 × 64
  expect((await figure(page, 'density')) / 100).toBeCloseTo(density, 2)
})

test('a lost device, cancelling in the middle, and again with a step cache', { timeout: 180_000 }, async ({ app }) => {
  const page = await app.open('video/?fault=lost-device')
  page.setDefaultTimeout(90_000)
  const make = page.getByRole('button', { name: 'Make both videos' })
  await make.waitFor()
  await page.getByLabel('Guidance', { exact: true }).fill('1')
  await page.getByLabel('Step cache').check()
  await page.getByLabel('Change up to which').fill('10')
  await make.click()
  await page.locator('[data-testid="job-failed"][data-code="DEVICE_LOST"]').waitFor()
  await page.getByRole('button', { name: 'Start again' }).click()
  await page.getByRole('heading', { name: 'After 1 of 4 steps' }).waitFor()
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByTestId('job-cancelled').waitFor()
  expect(await page.getByRole('heading', { name: 'The finished videos' }).count()).toBe(0)

  await make.click()
  await page.getByRole('heading', { name: 'The finished videos' }).waitFor()
  // The first step and the last one are always evaluated.
  expect(await page.getByTestId('evaluations').textContent()).toBe('4 and 2')
  await page.getByRole('slider', { name: /^Step/ }).focus()
  await page.keyboard.press('ArrowLeft')
  await page.getByText('the step cache reused an earlier answer').waitFor()
})

test('without WebGPU the page says so', async ({ app }) => {
  await withoutWebGpu(app.context)
  const page = await app.open('video/')
  await page.getByTestId('missing-gpu').waitFor()
})
