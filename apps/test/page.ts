import { AxeBuilder } from '@axe-core/playwright'
import { type Browser, type BrowserContext, chromium, type Locator, type Page } from 'playwright-core'
import { afterAll, test as base, beforeAll, expect, inject } from 'vitest'
import { chromiumLaunchOptions } from '../../scripts/test/chromium.js'

let browser: Browser

beforeAll(async () => {
  const options = await chromiumLaunchOptions()
  // A camera that shows a test picture, and somebody who allows it: without them headless Chromium has no camera at all.
  const camera = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']
  browser = await chromium.launch({ ...options, args: [...options.args!, ...camera] })
})
afterAll(async () => {
  await browser?.close()
})

export interface AppPage {
  readonly page: Page
  readonly context: BrowserContext
  /** Opens a path of the site: 'playground/?fault=lost-device'. */
  open(path: string): Promise<Page>
  /** What the page reported that a test has said to expect. */
  allow(message: RegExp): void
  /** Ends the process that computes for all pages, as a driver's fault does. Browsers start another. */
  crashGpu(): Promise<void>
}

/**
 * `test` with a fresh page in a context of its own. It fails on every violation of the content security policy, uncaught
 * error, `console.error` and request that leaves the site, unless the test has allowed the message.
 */
export const test = base.extend<{ app: AppPage }>({
  app: async ({ task }, use) => {
    const site = inject('site')
    const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, acceptDownloads: true })
    await computeInWorkers(context)
    const page = await context.newPage()
    const problems: string[] = []
    const allowed: RegExp[] = []
    page.on('pageerror', (error) => problems.push(`uncaught: ${error.message}`))
    page.on('console', (message) => {
      if (message.type() === 'error') problems.push(`console: ${message.text()} (${message.location().url})`)
    })
    page.on('request', (request) => {
      const url = request.url()
      if (!/^(blob|data):/.test(url) && !url.startsWith(site)) problems.push(`left the site: ${url}`)
    })
    await use({
      page,
      context,
      async open(path) {
        await page.goto(new URL(path, site).href)
        return page
      },
      allow: (message) => void allowed.push(message),
      async crashGpu() {
        const session = await browser.newBrowserCDPSession()
        await session.send('Browser.crashGpuProcess')
        await session.detach()
      },
    })
    // A page that has told its device has computed on it.
    if ((await page.locator('[data-testid="device"]').count()) > 0) (task.meta as { gpu?: boolean }).gpu = true
    await context.close()
    expect(problems.filter((problem) => !allowed.some((pattern) => pattern.test(problem)))).toEqual([])
  },
})

/** A page that computes on its own thread cannot answer meanwhile: there, devices and wasm are errors. Workers have both. */
async function computeInWorkers(context: BrowserContext): Promise<void> {
  await context.addInitScript(() => {
    const refuse = (owner: object, ...names: string[]) => {
      for (const name of names) {
        const value = () => {
          console.error(`${name} on the thread of the page`)
          throw new Error(`${name} is for workers.`)
        }
        Object.defineProperty(owner, name, { value })
      }
    }
    if ('GPUAdapter' in globalThis) refuse(GPUAdapter.prototype, 'requestDevice')
    refuse(WebAssembly, 'compile', 'compileStreaming', 'instantiate', 'instantiateStreaming')
  })
}

/** Presses Tab until the control whose name begins so has the focus, as somebody without a mouse does. */
export async function tabTo(page: Page, name: string): Promise<void> {
  for (let i = 0; i < 80; i++) {
    const focused = await page.evaluate(() => {
      const element = document.activeElement as HTMLInputElement | null
      return element?.ariaLabel ?? element?.labels?.[0]?.textContent ?? element?.textContent
    })
    if (focused?.startsWith(name)) return
    await page.keyboard.press('Tab')
  }
  throw new Error(`Tab does not reach '${name}'.`)
}

/** Goes on to a field by Tab, and types over what is in it. */
export async function typeInto(page: Page, name: string, text: number | string): Promise<void> {
  await tabTo(page, name)
  await page.keyboard.press('ControlOrMeta+a')
  await page.keyboard.type(String(text))
}

/** Until the job has failed with this code. Gives what the page says of it. */
export async function failure(page: Page, code: string): Promise<string> {
  const failed = page.locator(`[data-testid="job-failed"][data-code="${code}"]`)
  await failed.waitFor({ timeout: 150_000 })
  return (await failed.textContent())!
}

/** Drops a file, as from a folder beside the browser. */
export async function dropFile(target: Locator, name: string, bytes: Uint8Array, type = ''): Promise<void> {
  await target.evaluate(
    (element, { name, type, base64 }) => {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))
      const dataTransfer = new DataTransfer()
      dataTransfer.items.add(new File([bytes], name, { type }))
      element.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }))
    },
    { name, type, base64: Buffer.from(bytes).toString('base64') },
  )
}

/** Takes WebGPU from the pages that are opened after it. */
export async function withoutWebGpu(context: BrowserContext): Promise<void> {
  await context.addInitScript(() => {
    delete (Navigator.prototype as { gpu?: unknown }).gpu
  })
}

/** No serious accessibility violation, in light and dark, on a wide screen and on a phone; nothing wider than the phone. */
export async function expectAccessible(page: Page): Promise<void> {
  const found: string[] = []
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    await coloursSettle(page, colorScheme)
    for (const width of [1200, 390]) {
      await page.setViewportSize({ width, height: 800 })
      const { violations } = await new AxeBuilder({ page }).analyze()
      for (const { id, impact, nodes } of violations) {
        if (impact !== 'serious' && impact !== 'critical') continue
        found.push(
          `${colorScheme}, ${width} px: ${id} (${impact}) at ${nodes.map(({ target }) => target.join(' ')).join('; ')}`,
        )
      }
      const wide = await page.evaluate(() => document.documentElement.scrollWidth)
      if (wide > width) found.push(`${colorScheme}, ${width} px: the page is ${wide} px wide`)
    }
  }
  await page.setViewportSize({ width: 1200, height: 800 })
  expect(found).toEqual([])
}

/** The page follows a change of the system's colours in an effect, and some of its colours fade: neither is what axe should see. */
async function coloursSettle(page: Page, colorScheme: 'light' | 'dark'): Promise<void> {
  await page.locator(`html[data-mantine-color-scheme="${colorScheme}"]`).waitFor({ state: 'attached' })
  await page.waitForFunction(() => document.getAnimations().every((animation) => !(animation instanceof CSSTransition)))
}

/** A picture of the page for its documentation, where `SPARSE_ATTENTION_SCREENSHOTS=1` asks for it. */
export async function saveScreenshot(page: Page, name: string): Promise<void> {
  if (process.env.SPARSE_ATTENTION_SCREENSHOTS !== '1') return
  const { default: sharp } = await import('sharp')
  const { mkdir, writeFile } = await import('node:fs/promises')
  const folder = new URL('../../docs/apps/', import.meta.url)
  await mkdir(folder, { recursive: true })
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' })
  const picture = await page.screenshot()
  const encoded = (quality: number) => sharp(picture).webp({ quality, effort: 6 }).toBuffer()
  let webp = await encoded(75)
  // The tree has a limit; photos need a lower quality than charts.
  for (let quality = 65; webp.length > 40 * 1024; quality -= 10) webp = await encoded(quality)
  await writeFile(new URL(`${name}.webp`, folder), webp)
}
