import { playwright } from '@vitest/browser-playwright'
import type { LaunchOptions } from 'playwright-core'
import { defineConfig, type TestProjectConfiguration } from 'vitest/config'
import { chromiumLaunchOptions } from './scripts/test/chromium.js'
import { GpuCaseReporter } from './scripts/test/gpu-case-reporter.js'
import { findLavapipe, type LavapipeEnvironment } from './scripts/test/lavapipe.js'
import { inNode, sources, tests } from './scripts/test/projects.js'

/*
 * Two projects, told apart by a test file's name:
 *
 *   x.test.ts          Node only
 *   x.gpu.test.ts      Node (Dawn) and headless Chromium: uses WebGPU, and nothing of Node
 *   x.browser.test.ts  headless Chromium only
 *
 * And two more: `apps`, x.e2e.test.ts under `apps/`, which drive the built site in Chromium from Node; and `lavapipe`, where
 * `scripts/install-lavapipe.sh` has put that driver: some of the x.gpu.test.ts in Node, on an adapter that offers the tier f16, which SwiftShader does not.
 *
 * In both, `@sparse-attention/*` is the packages' source, and `createRuntime()` of `@sparse-attention/core` finds an
 * adapter: hardware where there is some, else SwiftShader, in Node; always SwiftShader in Chromium.
 *
 * Environment variables:
 *
 *   SPARSE_ATTENTION_TEST_PROJECT  `node`, `browser`, `apps` or `lavapipe`: only that project
 *   SPARSE_ATTENTION_ADAPTER       `auto`, `hardware` or `software`: the adapter in Node
 *   SPARSE_ATTENTION_CONFORMANCE   `all`: the whole grid of the conformance suite in Chromium too, not a slice of it
 *   SPARSE_ATTENTION_LAVAPIPE      `all`: every x.gpu.test.ts on lavapipe too, on each tier that it offers
 *   SPARSE_ATTENTION_CHROME        path of a Chrome or Chromium to use instead of the one from @sparticuz/chromium
 *   SPARSE_ATTENTION_TEST_REPORT   path of a JSON file to write the counts to
 *
 * A run in which a project executed no case on a GPU fails, unless files or names were picked on the command line.
 */

const only = process.env.SPARSE_ATTENTION_TEST_PROJECT

function nodeProject(): TestProjectConfiguration {
  const project = inNode('node', [tests('.test.ts'), 'scripts/**/*.test.ts', 'apps/**/!(*.e2e).test.ts'])
  return { ...project, test: { ...project.test, sequence: { groupOrder: 0 } } }
}

/**
 * Chromium compiles the same shaders with the same SwiftShader as Node, so the grid of the conformance suite is whole there and
 * a slice here; its properties, and all other tests, run in both.
 */
const sparseAttentionConformance = process.env.SPARSE_ATTENTION_CONFORMANCE === 'all' ? 'all' : 'slice'

function browserProject(launchOptions: LaunchOptions): TestProjectConfiguration {
  return {
    resolve: { alias: sources('index.ts') },
    // Met only when a test file is loaded, it would have Vite load all of them again.
    optimizeDeps: { include: ['fast-check'] },
    // Cross-origin isolation: SharedArrayBuffer, and with it wasm threads.
    server: {
      headers: {
        'Cross-Origin-Opener-Policy': 'same-origin',
        'Cross-Origin-Embedder-Policy': 'require-corp',
      },
    },
    test: {
      include: [tests('.gpu.test.ts'), tests('.browser.test.ts')],
      setupFiles: ['scripts/test/mark-gpu-cases.ts'],
      provide: { sparseAttentionConformance },
      maxWorkers: 2,
      testTimeout: 60_000,
      hookTimeout: 60_000,
      sequence: { groupOrder: 1 },
      browser: {
        enabled: true,
        headless: true,
        screenshotFailures: false,
        provider: playwright({ launchOptions }),
        instances: [{ browser: 'chromium', name: 'browser' }],
      },
    },
  }
}

/** The browser apps, built once and served with their headers; each test drives a page of its own. */
function appsProject(): TestProjectConfiguration {
  return {
    root: import.meta.dirname,
    resolve: { alias: sources('node/index.ts') },
    test: {
      name: 'apps',
      include: ['apps/**/*.e2e.test.ts'],
      globalSetup: ['apps/test/global-setup.ts'],
      pool: 'forks',
      maxWorkers: 2,
      // Chromium computes with SwiftShader.
      testTimeout: 90_000,
      hookTimeout: 60_000,
      sequence: { groupOrder: 2 },
    },
  }
}

/**
 * Lavapipe compiles an attention kernel in 3 to 15 s where SwiftShader takes two, on two cores. So every run has the tests of
 * the kernel that the tier f16 is about, over every kind of plan; the rest is for `SPARSE_ATTENTION_LAVAPIPE=all`.
 */
function lavapipeProject(env: LavapipeEnvironment): TestProjectConfiguration {
  const all = process.env.SPARSE_ATTENTION_LAVAPIPE === 'all'
  const project = inNode('lavapipe', [all ? tests('.gpu.test.ts') : 'kernels/src/*/flash-attention.gpu.test.ts'])
  const timeouts = { testTimeout: 300_000, hookTimeout: 300_000 }
  return { ...project, test: { ...project.test, ...timeouts, env, sequence: { groupOrder: 3 } } }
}

let noticed = false

/** Every test file finds its adapter anew; one notice that it is a slow one is enough. */
function onConsoleLog(log: string): boolean {
  if (!log.includes('using a software adapter')) return true
  const first = !noticed
  noticed = true
  return first
}

export default defineConfig(async () => {
  const projects: TestProjectConfiguration[] = []
  if (!only || only === 'node') projects.push(nodeProject())
  if (!only || only === 'browser') projects.push(browserProject(await chromiumLaunchOptions()))
  if (!only || only === 'apps') projects.push(appsProject())
  if (!only || only === 'lavapipe') {
    const lavapipe = findLavapipe()
    if (lavapipe) projects.push(lavapipeProject(lavapipe))
    else
      console.warn('No lavapipe here (scripts/install-lavapipe.sh gets it): the tier f16 is not tested without a GPU.')
  }
  return { test: { reporters: ['default', new GpuCaseReporter()], onConsoleLog, projects } }
})
