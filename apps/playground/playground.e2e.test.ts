import { readFile } from 'node:fs/promises'
import { attentionInputOf, type BenchReport, encodeSafetensors, makeInput } from '@sparse-attention/compare'
import type { Page } from 'playwright-core'
import { expect } from 'vitest'
import { parseDocumented } from '../../packages/cli/test/documented-schemas.js'
import {
  dropFile,
  expectAccessible,
  failure,
  saveScreenshot,
  tabTo,
  test,
  typeInto,
  withoutWebGpu,
} from '../test/page.js'
import { runCode } from './run-code.js'

async function openPlayground(open: (path: string) => Promise<Page>, path = 'playground/'): Promise<Page> {
  const page = await open(path)
  await page.getByRole('button', { name: 'Compare' }).waitFor()
  return page
}

/** Methods that need no kernel of their own, which takes seconds to compile on the CPU. */
async function chooseSimple(page: Page): Promise<void> {
  const methods = page.getByLabel('Method', { exact: true })
  await methods.nth(0).selectOption('dense')
  await methods.nth(1).selectOption('a-shape')
}

/** Until the job has ended well. */
async function done(page: Page): Promise<void> {
  await page.waitForFunction(() => document.querySelector('[data-testid="job-running"]') === null)
  expect(await page.getByTestId('job-failed').allTextContents()).toEqual([])
}

const percent = async (page: Page, method: 'a' | 'b', figure: string): Promise<number> =>
  Number.parseFloat((await page.getByTestId(`method-${method}`).getByTestId(figure).textContent())!)

/** How many pixels of a map have the colour of a kept and of a skipped cell, of all. */
async function pixels(page: Page, method: 'a' | 'b'): Promise<{ kept: number; skipped: number; invisible: number }> {
  return page
    .getByTestId(`method-${method}`)
    .locator('canvas')
    .first()
    .evaluate((canvas: HTMLCanvasElement) => {
      const style = getComputedStyle(canvas)
      const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height)
      const count = (name: string): number => {
        const color = Number.parseInt(style.getPropertyValue(name).trim().slice(1), 16)
        let found = 0
        for (let i = 0; i < data.length; i += 4)
          if (((data[i]! << 16) | (data[i + 1]! << 8) | data[i + 2]!) === color) found++
        return found
      }
      return { kept: count('--plan-kept'), skipped: count('--plan-skipped'), invisible: count('--plan-invisible') }
    })
}

test('compares two methods by keyboard; figures, map and code say what the packages say', {
  timeout: 200_000,
}, async ({ app }) => {
  await app.context.grantPermissions(['clipboard-read', 'clipboard-write'])
  const page = await openPlayground(app.open)
  expect(await page.getByTestId('device').getAttribute('data-software')).toBe('true')
  await typeInto(page, 'threshold', 0.5) // of xattention
  await tabTo(page, 'Method')
  await page.keyboard.type('a-shape')
  await tabTo(page, 'Compare')
  await page.keyboard.press('Enter')
  await page.getByTestId('results').waitFor({ timeout: 60_000 })
  await done(page)

  await page.getByRole('button', { name: 'Copy the code' }).click()
  const code = await page.evaluate(() => navigator.clipboard.readText())
  expect(code).toBe(await page.getByTestId('code').textContent())
  const [exact, ours, fixed] = await runCode(code)
  expect(exact).toMatchObject({ method: 'dense', recall: 1, relativeError: 0 })
  for (const [method, row] of [
    ['a', ours],
    ['b', fixed],
  ] as const) {
    expect([row!.method, row!.path]).toEqual([{ a: 'xattention', b: 'a-shape' }[method], 'sparse'])
    expect(row!.density).toBeLessThan(1)
    // Shown with one digit behind the point; the same SwiftShader, so the same selection.
    expect(await percent(page, method, 'density')).toBeCloseTo(100 * (row!.density as number), 0)
    expect(await percent(page, method, 'recall')).toBeCloseTo(100 * (row!.recall as number), 0)
    const error = Number(await page.getByTestId(`method-${method}`).getByTestId('error').textContent())
    expect(error).toBeCloseTo(row!.relativeError as number, 3) // shown with three digits
  }

  // 256 × 256 tokens, a pixel each: causal attention sees half of them, and a head keeps its density of those.
  const { kept, skipped, invisible } = await pixels(page, 'b')
  expect([kept + skipped, invisible]).toEqual([(256 * 257) / 2, (256 * 255) / 2])
  expect(kept / (kept + skipped)).toBeCloseTo(fixed!.density as number, 4) // a-shape keeps the same in every head

  // Zoom with a key: both maps show the same smaller part.
  const maps = page.getByTestId('plan-map').locator('canvas')
  await maps.first().focus()
  await page.keyboard.press('+')
  await page.keyboard.press('ArrowDown')
  expect(await maps.first().getAttribute('data-window')).toBe('96,224,64,192')
  expect(await maps.nth(1).getAttribute('data-window')).toBe('96,224,64,192')
  // And with the wheel, over any of them.
  await page.keyboard.press('0')
  await maps.nth(1).hover()
  await page.mouse.wheel(0, -100)
  await page.waitForFunction(() => {
    const windows = [...document.querySelectorAll<HTMLElement>('[data-window]')].map((map) => map.dataset.window)
    return windows[0] !== '0,256,0,256' && windows[0] === windows[1]
  })
  await page.getByRole('button', { name: 'Show all' }).first().click()
  await saveScreenshot(page, 'playground')
  await expectAccessible(page)
})

test('comes back after a lost device and after memory ran out; follows changes of an option; cancels and goes on', {
  timeout: 200_000,
}, async ({ app }) => {
  const page = await openPlayground(app.open, 'playground/?fault=lost-device,out-of-memory')
  await chooseSimple(page)
  await page.getByRole('button', { name: 'Compare' }).click()
  await failure(page, 'DEVICE_LOST')
  await page.getByRole('button', { name: 'Start again' }).click()
  expect(await failure(page, 'OUT_OF_MEMORY')).toContain('Choose smaller sizes')
  await page.getByRole('textbox', { name: 'Head dim' }).fill('32') // a change is followed
  await page.getByTestId('results').waitFor({ timeout: 60_000 })

  expect(await percent(page, 'b', 'density')).toBeLessThan(100)
  await page.getByLabel('localWindow').fill('256')
  await page.waitForFunction(
    () => document.querySelector('[data-testid="method-b"] [data-testid="density"]')?.textContent?.startsWith('100'),
    undefined,
    { timeout: 60_000 },
  )

  await page.getByRole('textbox', { name: 'Keys' }).fill('4096')
  await page.getByRole('button', { name: 'Cancel' }).click({ timeout: 30_000 })
  await page.getByTestId('job-cancelled').waitFor({ timeout: 30_000 })
  await page.getByRole('textbox', { name: 'Keys' }).fill('256')
  await page.getByRole('button', { name: 'Compare' }).click()
  await page.getByTestId('job-cancelled').waitFor({ state: 'detached' })
  await done(page)
})

test('reads a dropped file, and says what is wrong with one that is none', { timeout: 150_000 }, async ({ app }) => {
  const page = await openPlayground(app.open)
  await chooseSimple(page)
  await page.getByText('From a file').click()
  const shape = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 96, keyLength: 128, headDim: 32 }
  const { q, k, v } = attentionInputOf(makeInput('bands', shape, 'f32', 3))
  const tensor = ({ elements, shape }: typeof q) => ({
    dtype: 'F32' as const,
    shape,
    bytes: new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength),
  })
  const buffer = Buffer.concat(encodeSafetensors({ q: tensor(q), k: tensor(k), v: tensor(v) }))
  const target = page.getByText('or drop it here')
  await dropFile(target, 'cut.safetensors', buffer.subarray(0, 300))
  expect(await failure(page, 'INVALID_FILE')).toContain('cut.safetensors')

  await dropFile(target, 'qkv.safetensors', buffer)
  expect(await page.getByTestId('found-file').textContent()).toContain('2 query heads over 1, 96 queries, 128 keys')
  await page.getByRole('button', { name: 'Compare' }).click()
  await page.getByTestId('results').waitFor({ timeout: 60_000 })
  expect(await page.getByTestId('code').textContent()).toContain('"qkv.safetensors"')
  const { kept, skipped, invisible } = await pixels(page, 'b')
  expect(invisible).toBe((96 * 95) / 2) // the last of 96 queries sees all of 128 keys
  expect(kept + skipped).toBe(96 * 128 - (96 * 95) / 2)
})

test('captures a layer of the model, and its code captures the same', { timeout: 150_000 }, async ({ app }) => {
  const page = await openPlayground(app.open)
  await chooseSimple(page)
  await page.getByText('From a model').click()
  await page.getByLabel('Tokens').fill('128')
  // Only the blocks on the diagonal, so that recall depends on what was captured.
  await page.getByLabel('sink').fill('0')
  await page.getByLabel('localWindow').fill('1')
  await page.getByLabel('Layer').fill('1')
  await page.getByRole('button', { name: 'Compare' }).click()
  await page.getByTestId('results').waitFor({ timeout: 120_000 })
  await done(page)
  const [, , ours] = await runCode((await page.getByTestId('code').textContent())!)
  expect(ours!.recall).toBeLessThan(1)
  expect(await percent(page, 'b', 'density')).toBeCloseTo(100 * (ours!.density as number), 0)
  expect(await percent(page, 'b', 'recall')).toBeCloseTo(100 * (ours!.recall as number), 1)
})

test('saves a benchmark in the form of bench', { timeout: 150_000 }, async ({ app }) => {
  const page = await openPlayground(app.open)
  await page.getByLabel('Method', { exact: true }).nth(1).selectOption('a-shape')
  await page.getByLabel('Lengths').fill('64')
  await page.getByLabel('Samples').fill('1')
  await page.getByRole('button', { name: 'Benchmark' }).click()
  await page.getByTestId('bench-report').waitFor({ timeout: 80_000 })
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: 'Save as JSON' }).click(),
  ])
  const report = parseDocumented('bench', await readFile(await download.path(), 'utf8')) as BenchReport
  expect(report.results.map(({ contender, length, status }) => [contender, length, status])).toEqual([
    ['dense', 64, 'timed'],
    ['xattention', 64, 'timed'],
    ['a-shape', 64, 'timed'],
  ])
  for (const { total } of report.results) expect(total!.wall.medianMs).toBeGreaterThan(0)
})

test('without WebGPU it says so', async ({ app }) => {
  await withoutWebGpu(app.context)
  const page = await app.open('playground/')
  await page.getByTestId('missing-gpu').waitFor()
  expect(await page.getByRole('button', { name: 'Compare' }).count()).toBe(0)
})
