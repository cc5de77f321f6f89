import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { Page } from 'playwright-core'
import { expect, inject } from 'vitest'
import { apps } from './shell/apps.js'
import { test } from './test/page.js'

/** Those that the global set-up builds. */
const only = process.env.SPARSE_ATTENTION_APPS?.split(',')
const built = apps.filter(
  ({ id }) => (only?.includes(id) ?? true) && existsSync(join(import.meta.dirname, id, 'index.html')),
)
const heading = (page: Page) => page.getByRole('heading', { level: 1 }).waitFor()

/** The site in a folder of a host that sends no headers of ours, as GitHub Pages does. Outside of the folder there is nothing. */
async function serveInFolder(): Promise<AsyncDisposable & { readonly url: string }> {
  const folder = '/docs/apps/'
  const server = createServer(async (request, response) => {
    const path = request.url!
    if (!path.startsWith(folder)) {
      response.writeHead(404).end()
      return
    }
    const answer = await fetch(new URL(path.slice(folder.length), inject('site')))
    response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type')! })
    response.end(Buffer.from(await answer.arrayBuffer()))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${folder}`,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

test('in a folder of a host every app opens, with its icon, and leads to the others', async ({ app }) => {
  await using host = await serveInFolder()
  app.allow(new RegExp(`^left the site: ${host.url}`))
  const { page } = app
  const missing: string[] = []
  page.on('response', (response) => {
    if (response.status() >= 400) missing.push(response.url())
  })
  expect(built.length).toBeGreaterThan(0)
  for (const { id, title } of built) {
    await page.goto(host.url)
    await page.getByRole('main').getByRole('link', { name: title }).click()
    await heading(page)
    expect(page.url()).toBe(`${host.url}${id}/`)
    const icon = await page.locator('link[rel="icon"]').evaluate((link: HTMLLinkElement) => link.href)
    expect((await fetch(icon)).headers.get('content-type')).toContain('svg')
    await page.getByRole('link', { name: 'Sparse Attention' }).click()
    await page.waitForURL(host.url)
  }
  expect(missing).toEqual([])
})

test('in a folder of a host a worker finds its model and onnxruntime-web, and says how far they are', async ({
  app,
}) => {
  await using host = await serveInFolder()
  app.allow(new RegExp(`^left the site: ${host.url}`))
  const { page } = app
  await page.goto(`${host.url}vision/`)
  await page.getByText('The page is not cross-origin isolated').waitFor()
  await page.evaluate(() => {
    const seen = new Set<string>()
    Object.assign(globalThis, { seen })
    const look = () => {
      for (const { textContent } of document.querySelectorAll('[data-testid="job-running"] p')) seen.add(textContent!)
    }
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true })
  })
  await page.getByRole('button', { name: 'ketch' }).click()
  // The first part of the model is there, so everything that computes is.
  await page.getByText('Preparing the model').waitFor({ timeout: 60_000 })
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByTestId('job-cancelled').waitFor()
  const seen = await page.evaluate(() => [...(globalThis as unknown as { seen: Set<string> }).seen])
  expect(seen).toContainEqual(expect.stringMatching(/^Loading the model — [\d.]+ .?B/))
  expect(seen).toContainEqual(expect.stringMatching(/^Loading onnxruntime-web — [\d.]+ MB/))
})

test('on a host without headers a page keeps its own content security policy', async ({ app }) => {
  await using host = await serveInFolder()
  app.allow(new RegExp(`^left the site: ${host.url}`))
  app.allow(/^console: .*inline script.*Content Security Policy/)
  await app.page.goto(host.url)
  await heading(app.page)
  const ran = await app.page.evaluate(() => {
    const script = document.createElement('script')
    script.textContent = 'globalThis.injected = true'
    document.head.append(script)
    return 'injected' in globalThis
  })
  expect(ran).toBe(false)
})

test('pages may use the camera, and nothing else that asks', async ({ app }) => {
  for (const { id } of built) {
    const page = await app.open(`${id}/`)
    const allowed = await page.evaluate(() => {
      const { featurePolicy } = document as unknown as { featurePolicy: { allowedFeatures(): string[] } }
      return featurePolicy.allowedFeatures()
    })
    const asking = ['camera', 'microphone', 'geolocation', 'display-capture', 'payment', 'usb', 'serial', 'hid', 'midi']
    expect([id, asking.filter((feature) => allowed.includes(feature))]).toEqual([id, ['camera']])
  }
})

test('the README says what a page loads before anything is pressed', async ({ app }) => {
  const readme = readFileSync(join(import.meta.dirname, 'README.md'), 'utf8')
  const wrong: string[] = []
  for (const { id } of built) {
    const urls = new Set<string>()
    const collect = (request: { url(): string }) => {
      if (/(\/|\.js|\.css)$/.test(new URL(request.url()).pathname)) urls.add(request.url())
    }
    app.page.on('request', collect)
    const page = await app.open(`${id}/`)
    await heading(page)
    await page.waitForLoadState('networkidle')
    app.page.off('request', collect)
    const sizes = [...urls].map(async (url) => gzipSync(await (await fetch(url)).arrayBuffer()).length)
    const kilobytes = (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0) / 1000
    const said = Number(new RegExp(`\\| \\[${id}\\].*\\| (\\d+) kB \\|`).exec(readme)?.[1])
    // Chunks are cut anew with each page that is added.
    if (!(Math.abs(kilobytes / said - 1) < 0.15))
      wrong.push(`${id}: ${kilobytes.toFixed(0)} kB, the README says ${said}`)
  }
  expect(wrong).toEqual([])
})
