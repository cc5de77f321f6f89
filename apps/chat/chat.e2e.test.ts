import type { Page } from 'playwright-core'
import { expect } from 'vitest'
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
import { recordedRun } from '../test/recorded-run.js'
import type { LibraryPane, LibraryRunOptions } from './library-run.js'

const asked: LibraryRunOptions = {
  length: 150,
  threshold: 0.3,
  newTokens: 5,
  statisticsEvery: 4,
  reply: ' and',
  needle: { depth: 0.3, seed: 1 },
}

/** The model is there, and the tokens of the document have been counted. */
async function openChat(open: (path: string) => Promise<Page>, path = 'chat/'): Promise<Page> {
  const page = await open(path)
  await page.locator('[data-testid="document"][data-tokens]').waitFor({ timeout: 60_000 })
  return page
}

/** Until the job has ended, well or not. */
async function end(page: Page): Promise<void> {
  await page.getByTestId('job-running').waitFor()
  await page.getByTestId('job-running').waitFor({ state: 'detached', timeout: 150_000 })
  expect(await page.getByTestId('job-failed').count()).toBe(0)
}

async function expectTurn(page: Page, pane: 'dense' | 'sparse', turn: number, { turns }: LibraryPane): Promise<void> {
  const shown = page.getByTestId(`${pane}-turn-${turn}`)
  expect(await shown.getAttribute('data-tokens')).toBe(turns[turn]!.tokens.join(' '))
  expect(await shown.textContent()).toBe(turns[turn]!.text)
  const [reading, writing] = turns[turn]!.densities.map((density) => 100 * density)
  const percent = async (what: string) => Number.parseFloat((await page.getByTestId(`${pane}-${what}`).textContent())!)
  expect(Math.abs((await percent('reading')) - reading!)).toBeLessThan(0.051) // shown with one digit behind the point
  expect(Math.abs((await percent('writing')) - writing!)).toBeLessThan(0.051) // likewise
  expect(await page.getByTestId(`${pane}-first`).textContent()).toMatch(/^[\d.]+ m?s$/)
  expect(Number(await page.getByTestId(`${pane}-speed`).textContent())).toBeGreaterThan(0)
}

test('writes by keyboard what the library writes, turn after turn, and finds the needle; cancels and goes on', {
  timeout: 300_000,
}, async ({ app }) => {
  const file = new URL('library-run.json', import.meta.url)
  const recorded = await recordedRun(file, asked, async () => (await import('./library-run.js')).libraryRun)
  const page = await openChat(app.open)
  await typeInto(page, 'Tokens to read', asked.length)
  await tabTo(page, 'Options of XAttention')
  await page.keyboard.press('Enter')
  await typeInto(page, 'threshold', asked.threshold)
  await typeInto(page, 'New tokens', asked.newTokens)
  await tabTo(page, 'Read and write')
  await page.keyboard.press('Enter')
  await end(page)
  await expectTurn(page, 'dense', 0, recorded.dense)
  await expectTurn(page, 'sparse', 0, recorded.sparse)
  const same = recorded.dense.turns[0]!.tokens.findIndex((token, i) => token !== recorded.sparse.turns[0]!.tokens[i])
  expect(await page.getByTestId('sparse-turn-0').locator('mark').count()).toBe(same < 0 ? 0 : 1)
  const agreement = page.getByTestId('agreement')
  const [agreed, of] = await Promise.all(['data-same', 'data-of'].map((name) => agreement.getAttribute(name)))
  expect([agreed, of]).toEqual([`${recorded.agreed}`, `${asked.newTokens}`])
  // The chart's numbers: layers see as many pairs each, so their mean is the density of all.
  const rows = await page
    .locator('table')
    .first()
    .locator('tbody tr')
    .evaluateAll((rows) => rows.map((row) => [...(row as HTMLTableRowElement).cells].map((cell) => cell.textContent)))
  expect(rows).toHaveLength(8)
  for (const [column, density] of [
    [2, recorded.sparse.turns[0]!.densities[0]!],
    [4, recorded.sparse.turns[0]!.densities[1]!],
  ] as const) {
    const mean = rows.reduce((sum, row) => sum + Number(row[column]), 0) / rows.length
    expect(Math.abs(mean - density)).toBeLessThan(0.00051) // shown with three digits behind the point
  }
  await page.getByLabel('Text behind the document').evaluate((field) => field.scrollIntoView())
  await page.evaluate(() => scrollBy(0, -60))
  await saveScreenshot(page, 'chat')

  await page.getByLabel('Text behind the document').fill(asked.reply)
  await page.getByTestId('go-on').click()
  await end(page)
  await expectTurn(page, 'dense', 1, recorded.dense)
  await expectTurn(page, 'sparse', 1, recorded.sparse)
  // The conversation of before, with its last token, and the reply.
  expect(await page.getByTestId('dense-ended').textContent()).toContain(
    `Read 2 tokens, ${asked.length + 5} were read before`,
  )

  await page.getByTestId('needle').click()
  await end(page)
  for (const pane of ['dense', 'sparse'] as const) {
    expect(await page.getByTestId(`${pane}-needle`).getAttribute('data-found')).toBe(`${recorded[pane].found}`)
    expect(recorded[pane].found).toBe(true)
    expect(await page.getByTestId(`${pane}-turn-0`).textContent()).toBe(recorded.answer)
  }
  await expectAccessible(page)

  await page.getByLabel('New tokens').fill('60')
  await page.getByTestId('read').click()
  await page.locator('[data-testid="dense-turn-0"][data-tokens]:not([data-tokens=""])').waitFor({ timeout: 60_000 })
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByTestId('job-cancelled').waitFor({ timeout: 30_000 })
  const kept = (await page.getByTestId('dense-turn-0').getAttribute('data-tokens'))!.split(' ').map(Number)
  expect(kept.length).toBeLessThan(60)
  expect(kept.slice(0, 5)).toEqual(recorded.dense.turns[0]!.tokens.slice(0, kept.length))
  await page.getByLabel('New tokens').fill('1')
  await page.getByTestId('go-on').click()
  await end(page)
  if (kept.length < 5) {
    const next = await page.getByTestId('dense-turn-1').getAttribute('data-tokens')
    expect(next).toBe(`${recorded.dense.turns[0]!.tokens[kept.length]}`)
  }
})

test('reads less after memory ran out, and starts again after the GPU crashed in the middle of a text', {
  timeout: 240_000,
}, async ({ app }) => {
  const page = await openChat(app.open, 'chat/?fault=out-of-memory')
  await page.getByLabel('Tokens to read').fill('24')
  await page.getByLabel('New tokens').fill('12')
  for (const method of await page.getByLabel('Method').all()) await method.selectOption('dense')
  await page.getByRole('switch', { name: 'Dense attention beside it' }).click()
  await page.getByTestId('read').click()
  expect(await failure(page, 'OUT_OF_MEMORY')).toContain('Choose smaller sizes')

  await page.getByLabel('Tokens to read').fill('16')
  await page.getByTestId('read').click()
  await page.locator('[data-testid="sparse-turn-0"][data-tokens]:not([data-tokens=""])').waitFor({ timeout: 60_000 })
  await app.crashGpu()
  await failure(page, 'DEVICE_LOST')
  await page.getByRole('button', { name: 'Start again' }).click()
  await end(page)
  expect((await page.getByTestId('sparse-turn-0').getAttribute('data-tokens'))!.split(' ')).toHaveLength(12)
  expect(await page.getByTestId('pane-dense').count()).toBe(0)
})

test('takes pasted and dropped text, and says what it cannot read', { timeout: 120_000 }, async ({ app }) => {
  const page = await openChat(app.open)
  const tokens = page.getByTestId('document')
  expect(await tokens.textContent()).toMatch(/^Pride and Prejudice: 211,\d{3} tokens$/)
  await page.getByText('What is read').click()
  await page.getByText('It is a truth universally acknowledged').waitFor()

  await page.getByLabel('Text to read').fill('It is a truth')
  await page.getByText('Pasted text: 4 tokens').waitFor()
  await dropFile(tokens, 'picture.png', Uint8Array.of(0x89, 0x50, 0x4e, 0x47))
  await page.getByText('picture.png is not text in UTF-8').waitFor()
  await dropFile(tokens, 'notes.txt', new TextEncoder().encode('It is a truth universally acknowledged'))
  await page.getByText(/notes\.txt: \d+ tokens/).waitFor()
  expect(await page.getByRole('alert').count()).toBe(0)
})

test('says what is missing without WebGPU', async ({ app }) => {
  await withoutWebGpu(app.context)
  const page = await app.open('chat/')
  await page.getByTestId('missing-gpu').waitFor()
  expect(await page.getByTestId('missing-gpu').textContent()).toContain('This browser has no WebGPU')
})
