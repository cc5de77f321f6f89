import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { chromiumLaunchOptions } from '../test/chromium.js'
import { install, installedPackages, type Project, publish, runInNode, runInPage } from './projects.js'
import { type LocalRegistry, startRegistry } from './registry.js'
import { pack, publicPackages, type WorkspacePackage } from './workspace.mjs'

/*
 * Publishes every package to a registry of its own (verdaccio) and uses those with methods as somebody would who has nothing of this
 * repository: installs one with npm and with pnpm, runs it in Node, bundles it and runs it in a page. Nothing comes from
 * another registry. Needs a build.
 */

const packages = await publicPackages()

/** Packages of methods: they need core and kernels, and nothing else. */
const needs = ['@sparse-attention/core', '@sparse-attention/kernels']
const plugins = packages
  .filter(({ manifest: { dependencies = {}, peerDependencies = {} } }) => {
    const names = [...Object.keys(dependencies), ...Object.keys(peerDependencies)]
    return names.sort().join() === needs.join()
  })
  .map(({ manifest }) => manifest.name)

let folder: string
let registry: LocalRegistry

async function packAndPublish({ folder: source, manifest }: WorkspacePackage): Promise<void> {
  if (!existsSync(join(source, 'dist'))) throw new Error(`${manifest.name} is not built: run \`pnpm build\`.`)
  const tarballs = await mkdtemp(join(folder, 'pack-'))
  await publish(await pack(source, tarballs), registry.url)
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sparse-attention-release-'))
  registry = await startRegistry()
  for (const entry of packages) await packAndPublish(entry)
}, 600_000)

afterAll(async () => {
  await registry[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

test.each(packages.map(({ manifest }) => manifest))('$name is published', async ({ name, version }) => {
  expect(await registry.versions(name)).toEqual([version])
})

test('what nobody published is not there', async () => {
  expect(await registry.versions('onnxruntime-web')).toEqual([])
})

/** Rounding of sums of 144 products in f32. */
const most = 1e-5

describe.each(plugins)('%s', (name) => {
  const needed = [name, ...needs].sort()

  async function installed(client: 'npm' | 'pnpm'): Promise<Project> {
    const into = join(folder, `${client}-${name.split('/').at(-1)}`)
    const project = await install(into, client, ['@sparse-attention/core', name], registry.url)
    // And nothing else: optional peers are not missed where there are none.
    expect(await installedPackages(project)).toEqual(needed)
    return project
  }

  test('installed with npm, runs in Node and, bundled, in a page', { timeout: 300_000 }, async () => {
    const project = await installed('npm')
    const inNode = await runInNode(project, name)
    expect(inNode.error).toBeLessThan(most)
    expect(inNode.density).toBeGreaterThan(0)
    const browser = await chromium.launch(await chromiumLaunchOptions())
    try {
      const inPage = await runInPage(project, name, browser)
      expect(inPage.error).toBeLessThan(most)
      expect(inPage).toMatchObject({ method: inNode.method, density: inNode.density })
    } finally {
      await browser.close()
    }
  })

  test('installed with pnpm, runs in Node', { timeout: 300_000 }, async () => {
    const found = await runInNode(await installed('pnpm'), name)
    expect(found.error).toBeLessThan(most)
    expect(found.density).toBeGreaterThan(0)
  })
})
