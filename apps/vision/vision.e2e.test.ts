import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import sharp from 'sharp'
import { expect, vi } from 'vitest'
import { decodePictureFile } from '../../packages/cli/src/demo/vision/decode.js'
import { dropFile, expectAccessible, failure, saveScreenshot, tabTo, test, withoutWebGpu } from '../test/page.js'
import { recordedRun } from '../test/recorded-run.js'

// The software adapter shares its cores with whatever else runs.
vi.setConfig({ testTimeout: 400_000 })

const photosFolder = join(import.meta.dirname, '../../packages/models/photos')

/** PyTorch's logits, from the recipe of the model. */
interface Recorded {
  readonly photo: string
  readonly class: string
  readonly routed: readonly number[]
  readonly dense: readonly number[]
}
const recorded = JSON.parse(await readFile(join(photosFolder, 'logits.json'), 'utf8')) as Recorded[]
const recordedOf = (name: string) => recorded.find(({ photo }) => photo === `${name}.jpg`)!

/** What the app saves. */
interface Saved {
  readonly routed: { readonly logits: readonly number[] }
  readonly dense?: { readonly logits: readonly number[] }
  readonly layers: readonly { readonly layer: number; readonly routes?: readonly (readonly number[][])[] }[]
}

/** Decoders of JPEGs may differ by a level of 255 here and there; the routed region may turn on less than that. */
const logitTolerance = 0.05

function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length)
  return Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i]!)))
}

async function download(page: Page, button: string): Promise<Buffer> {
  const [file] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: button, exact: true }).click(),
  ])
  return readFile(await file.path())
}

const saved = async (page: Page) => JSON.parse(String(await download(page, 'Save logits and routes'))) as Saved
const results = (page: Page, name: string) =>
  page.locator(`[data-testid="results"][data-photo="${name}"]`).waitFor({ timeout: 120_000 })
const done = (page: Page) => page.getByTestId('job-running').waitFor({ state: 'detached', timeout: 120_000 })

/** Regions that the picture marks as attended to, and the one that asks. */
const marked = (page: Page) =>
  page.evaluate(() => {
    const cells = [...document.querySelectorAll<HTMLElement>('[data-region]')]
    const region = (cell: HTMLElement) => Number(cell.dataset.region)
    return {
      asking: cells.filter((cell) => cell.ariaPressed === 'true').map(region),
      attended: cells.filter((cell) => Number(cell.dataset.share) === 1).map(region),
    }
  })

test('by keyboard alone: a photo is classified as PyTorch does, and its regions show the library’s routes', async ({
  app,
}) => {
  const picture = await decodePictureFile(join(photosFolder, 'butterfly.jpg'))
  const file = new URL('library-run.json', import.meta.url)
  const library = await recordedRun(file, { photo: 'butterfly' }, async () => {
    const { libraryRun } = await import('./library-run.js')
    return () => libraryRun(picture)
  })
  const routes = new Map(library.routes.map(({ layer, regions }) => [layer, regions]))
  const page = await app.open('vision/')
  await tabTo(page, 'butterfly')
  await page.keyboard.press('Enter')
  await page.getByTestId('job-running').waitFor()
  await results(page, 'butterfly')
  await done(page)

  const { routed, dense, layers } = await saved(page)
  expect(difference(routed.logits, recordedOf('butterfly').routed)).toBeLessThan(logitTolerance)
  expect(difference(dense!.logits, recordedOf('butterfly').dense)).toBeLessThan(logitTolerance)
  expect(new Map(layers.flatMap((look) => (look.routes ? [[look.layer, look.routes[0]!]] : [])))).toEqual(routes)
  for (const [attention, of] of [
    ['routed', routed],
    ['dense', dense!],
  ] as const) {
    const shown = await page.locator(`[data-class="butterfly"][data-attention="${attention}"]`).textContent()
    const sum = of.logits.reduce((total, logit) => total + Math.exp(logit), 0)
    expect(shown).toBe(`${Math.round((100 * Math.exp(Math.max(...of.logits))) / sum)} %`)
  }

  // From the middle one to the right and one down.
  expect(await marked(page)).toEqual({ asking: [12], attended: routes.get(11)![12] })
  await tabTo(page, 'Row 3, column 3')
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('ArrowDown')
  expect(await marked(page)).toEqual({ asking: [18], attended: routes.get(11)![18] })
  const shownCovered = Number.parseFloat((await page.getByTestId('covered').textContent())!) / 100
  // Two LSEs of size 5 in f32, and a percentage of one decimal.
  expect(Math.abs(shownCovered - library.covered)).toBeLessThan(1e-3)

  await page.getByLabel('Layer', { exact: true }).selectOption('1')
  await page.locator('[data-region="7"]').click()
  expect(await marked(page)).toEqual({ asking: [7], attended: routes.get(1)![7] })
  await expectPicture(await download(page, 'Save the picture'), picture, routes.get(1)![7]!)
  // Dense: the last stage.
  await page.getByLabel('Layer', { exact: true }).selectOption('13')
  expect((await marked(page)).attended).toHaveLength(25)
  await page.getByLabel('Layer', { exact: true }).selectOption('11')
  await page.locator('[data-region="12"]').click()
  await expectAccessible(page)
  await page.evaluate(() => scrollTo(0, 0))
  await saveScreenshot(page, 'vision')
})

/** The saved picture shows the photo where the region attends to it, and darkens the rest. */
async function expectPicture(
  png: Buffer,
  photo: Awaited<ReturnType<typeof decodePictureFile>>,
  attended: readonly number[],
) {
  const { data, info } = await sharp(png).removeAlpha().raw().toBuffer({ resolveWithObject: true })
  expect([info.width, info.height]).toEqual([1120, 680])
  // What the model sees of 300 × 197, and where the picture has it.
  const side = Math.round((197 * 160) / 176)
  const crop = { left: Math.round((300 - side) / 2), top: Math.round((197 - side) / 2), width: side, height: side }
  const { width, height, channels } = photo
  const seen = await sharp(Buffer.from(photo.data), { raw: { width, height, channels } })
    .extract(crop)
    .resize(520, 520, { fit: 'fill' })
    .removeAlpha()
    .raw()
    .toBuffer()
  for (let region = 0; region < 25; region++) {
    // The middle of the upper half of a region: no frame, and no number.
    const [x, y] = [(region % 5) * 104 + 30, Math.floor(region / 5) * 104 + 20]
    let [shown, expected, count] = [0, 0, 0]
    for (let dy = 0; dy < 40; dy++) {
      for (let dx = 0; dx < 44; dx++) {
        for (let channel = 0; channel < 3; channel++) {
          shown += data[((y + dy + 104) * 1120 + x + dx + 32) * 3 + channel]!
          const level = seen[((y + dy) * 520 + x + dx) * 3 + channel]!
          expected += attended.includes(region) ? level : 0.28 * level + 0.72 * [0x10, 0x18, 0x20][channel]!
          count++
        }
      }
    }
    // Means over a part: scalers differ by less than a level or two there.
    expect(Math.abs(shown - expected) / count, `region ${region}`).toBeLessThan(3)
  }
}

/** The browser of the tests allows every camera: once, the page is told what a user's no is. */
async function denyCamera(page: Page): Promise<void> {
  await page.evaluate(() => {
    const { mediaDevices } = navigator
    mediaDevices.getUserMedia = async () => {
      delete (mediaDevices as { getUserMedia?: unknown }).getUserMedia // the prototype's is left
      throw new DOMException('Permission denied', 'NotAllowedError')
    }
  })
}

test('a dropped file that is no picture and one that is, a lost device, no memory, cancelling, another k, the camera with and without permission', async ({
  app,
}) => {
  const page = await app.open('vision/?fault=lost-device,out-of-memory')
  await dropFile(page.getByTestId('drop'), 'notes.jpg', new TextEncoder().encode('no picture'), 'image/jpeg')
  await failure(page, 'INVALID_FILE')

  await page.getByLabel('Compare with dense attention').click()
  const sunflower = await readFile(join(photosFolder, 'sunflower.jpg'))
  await dropFile(page.getByTestId('drop'), 'sunflower.jpg', sunflower, 'image/jpeg')
  await failure(page, 'DEVICE_LOST')
  await page.getByRole('button', { name: 'Start again' }).click()
  expect(await failure(page, 'OUT_OF_MEMORY')).toContain('Choose smaller sizes')
  await page.getByRole('button', { name: 'Classify' }).click()
  await page.getByText('Looking at the photo').waitFor({ timeout: 120_000 })
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByTestId('job-cancelled').waitFor()
  expect(await page.getByTestId('results').count()).toBe(0)

  for (const stage of [1, 2, 3]) {
    await page.getByLabel(`k, stage ${stage}`).focus()
    for (const key of ['End', 'Backspace', '2', '5']) await page.keyboard.press(key)
  }
  await page.getByRole('button', { name: 'Classify' }).click()
  await results(page, 'sunflower.jpg')
  await done(page)
  // All regions: routed attention is dense attention.
  const { routed, dense, layers } = await saved(page)
  expect(difference(routed.logits, recordedOf('sunflower').dense)).toBeLessThan(logitTolerance)
  expect(dense).toBeUndefined()
  expect(layers.filter(({ routes }) => routes)).toEqual([])
  await page.getByRole('button', { name: 'As trained' }).click()

  await denyCamera(page)
  await page.getByRole('button', { name: 'Open the camera' }).click()
  await page.getByTestId('camera-failed').waitFor()
  expect(await page.getByTestId('camera-failed').textContent()).toContain('does not let this page use the camera')
  await page.getByRole('button', { name: 'Open the camera' }).click()
  await page.getByRole('button', { name: 'Live' }).click()
  await page.getByText(/^Live: .*picture/).waitFor({ timeout: 120_000 })
  await results(page, 'camera')
  expect((await marked(page)).attended).toHaveLength(8)
  await page.getByRole('button', { name: 'Stop live' }).click()
  await done(page)
  expect((await saved(page)).layers).toHaveLength(14)
  await page.getByRole('button', { name: 'Close the camera' }).click()
  expect(await page.evaluate(() => document.querySelector('video')!.srcObject)).toBeNull()
})

test('without WebGPU the page says so', async ({ app }) => {
  await withoutWebGpu(app.context)
  const page = await app.open('vision/')
  await page.getByTestId('missing-gpu').waitFor()
})
