import { join } from 'node:path'
import type { TestProjectInlineConfiguration } from 'vitest/config'

const root = join(import.meta.dirname, '..', '..')

/** Source instead of `dist`, so that tests need no build and stack traces point at what you edit. */
export function sources(core: string): { find: RegExp; replacement: string }[] {
  return [
    { find: /^@sparse-attention\/kernels$/, replacement: `${root}/kernels/src/index.ts` },
    { find: /^@sparse-attention\/core$/, replacement: `${root}/packages/core/src/${core}` },
    { find: /^@sparse-attention\/([^/]+)$/, replacement: `${root}/packages/$1/src/index.ts` },
    {
      find: /^@sparse-attention\/([^/]+)\/(?!package\.json$)(.+)$/,
      replacement: `${root}/packages/$1/src/$2/index.ts`,
    },
  ]
}

export const tests = (ending: string): string => `{kernels/src,packages/*/src,docs/examples}/**/*${ending}`

/** Tests in Node: what the projects that run there have in common. */
export function inNode(name: string, include: readonly string[]): TestProjectInlineConfiguration {
  return {
    root,
    resolve: { alias: sources('node/index.ts') },
    test: {
      name,
      include: [...include],
      exclude: ['**/node_modules/**', tests('.browser.test.ts')],
      setupFiles: ['mark-gpu-cases.ts', 'rest-between-polls.ts'].map((file) => join(root, 'scripts/test', file)),
      // A process per file: Dawn cannot be unloaded, and one lost device must not take other files along.
      pool: 'forks',
      maxWorkers: 2,
      // SwiftShader computes a few hundred MFLOPS.
      testTimeout: 60_000,
      hookTimeout: 60_000,
    },
  }
}
