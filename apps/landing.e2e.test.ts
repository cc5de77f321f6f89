import { readdirSync } from 'node:fs'
import { expect, inject } from 'vitest'
import { siteHeaders } from './headers.js'
import { apps } from './shell/apps.js'
import { expectAccessible, test, withoutWebGpu } from './test/page.js'

test('the landing page leads to every app, says that the browser can run them, and is accessible', async ({ app }) => {
  const page = await app.open('')
  await page.getByTestId('gpu-support').waitFor()
  expect(await page.getByTestId('gpu-support').textContent()).toBe('This browser has what the apps need.')
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(true)
  for (const { id, title } of apps) {
    const link = page.getByRole('main').getByRole('link', { name: title })
    expect(await link.evaluate((a: HTMLAnchorElement) => a.href)).toBe(`${inject('site')}${id}/`)
  }
  await expectAccessible(page)
})

test('every app that is listed has a page', async ({ app }) => {
  const only = process.env.SPARSE_ATTENTION_APPS?.split(',')
  const folders = readdirSync(import.meta.dirname).filter((name) => only?.includes(name) ?? true)
  for (const { id } of apps.filter(({ id }) => folders.includes(id))) {
    const response = await fetch(new URL(`${id}/`, inject('site')))
    expect([id, response.status]).toEqual([id, 200])
    expect(await response.text()).toContain('<div id="app">')
  }
  await app.open('')
})

test('the server sends the headers that hosts read from _headers', async ({ app }) => {
  await app.open('')
  const { headers } = await fetch(inject('site'))
  const expected = siteHeaders()
  expect(Object.keys(expected).length).toBeGreaterThan(4)
  for (const [name, value] of Object.entries(expected)) expect([name, headers.get(name)]).toEqual([name, value])
})

test('the colour scheme follows the switch, by keyboard, and stays after a reload', async ({ app }) => {
  const page = await app.open('')
  const scheme = () => page.evaluate(() => document.documentElement.dataset.mantineColorScheme)
  await page.getByRole('radio', { name: 'Dark' }).focus()
  await page.keyboard.press('Space')
  await page.waitForFunction(() => document.documentElement.dataset.mantineColorScheme === 'dark')
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  expect(background).toBe('rgb(36, 36, 36)') // Mantine's dark.7: its variables are there without its style elements
  await page.reload()
  await page.getByTestId('gpu-support').waitFor()
  expect(await scheme()).toBe('dark')
})

test('without WebGPU the page says so', async ({ app }) => {
  await withoutWebGpu(app.context)
  const page = await app.open('')
  const missing = page.getByTestId('missing-gpu')
  await missing.waitFor()
  expect(await missing.textContent()).toContain('This browser has no WebGPU')
})
