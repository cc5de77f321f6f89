import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import react from '@vitejs/plugin-react'
import { defaultClientConditions, defineConfig, type Plugin, type UserConfig } from 'vite'
import { developmentHeaders, developmentNonce, policyOfPages, siteHeaders } from './headers.js'

const here = import.meta.dirname
const repository = join(here, '..')

/** `SPARSE_ATTENTION_APPS=chat,vision` builds only these apps. */
const only = process.env.SPARSE_ATTENTION_APPS?.split(',')

/** The landing page, and every folder that has a page. */
const pages = ['.', ...readdirSync(here).filter((name) => name !== 'dist' && (only?.includes(name) ?? true))]
  .map((folder) => join(here, folder, 'index.html'))
  .filter((page) => existsSync(page))

/** First in the head: it holds for what comes after it. */
const policy: Plugin = {
  name: 'content-security-policy',
  apply: 'build',
  transformIndexHtml: () => [
    {
      tag: 'meta',
      attrs: { 'http-equiv': 'Content-Security-Policy', content: policyOfPages() },
      injectTo: 'head-prepend',
    },
  ],
}

export default defineConfig(
  ({ command, isPreview }): UserConfig => ({
    root: here,
    // A built site works in any folder of a host.
    base: './',
    appType: 'mpa',
    plugins: [react(), policy],
    resolve: {
      // The packages' source, so that nothing needs to be built first; their files (models, photos) are found as packages.
      alias: [
        { find: /^@sparse-attention\/kernels$/, replacement: join(repository, 'kernels/src/index.ts') },
        { find: /^@sparse-attention\/([^/]+)$/, replacement: join(repository, 'packages/$1/src/index.ts') },
      ],
      // onnxruntime-web's threads load its module by address, which must not be a chunk of ours.
      conditions: ['onnxruntime-web-use-extern-wasm', ...defaultClientConditions],
    },
    ...(command === 'serve' && !isPreview ? { html: { cspNonce: developmentNonce } } : {}),
    server: { headers: developmentHeaders(), fs: { allow: [repository] } },
    preview: { headers: siteHeaders() },
    worker: { format: 'es' },
    optimizeDeps: { exclude: ['onnxruntime-web'] },
    build: {
      target: 'esnext',
      emptyOutDir: true,
      modulePreload: { polyfill: false },
      assetsInlineLimit: 0,
      // onnxruntime-web's wasm and the models are larger, and said to be while they load.
      chunkSizeWarningLimit: 2000,
      reportCompressedSize: false,
      rolldownOptions: { input: pages },
    },
  }),
)
