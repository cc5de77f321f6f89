import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build, preview } from 'vite'
import type { TestProject } from 'vitest/node'

declare module 'vitest' {
  interface ProvidedContext {
    /** Where the built site is served, with its real headers. Ends with a slash. */
    readonly site: string
  }
}

/** Builds the site once for all tests of the project, and serves it as a host would. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const configFile = join(import.meta.dirname, '..', 'vite.config.ts')
  // Vitest sets it to `test`, and React would come with its development build.
  const environment = process.env.NODE_ENV
  process.env.NODE_ENV = 'production'
  // Its own folder: two runs at once would overwrite each other's site.
  const outDir = await mkdtemp(join(tmpdir(), 'sparse-attention-apps-'))
  await build({ configFile, logLevel: 'warn', mode: 'production', build: { outDir } })
  if (environment === undefined) delete process.env.NODE_ENV
  else process.env.NODE_ENV = environment
  const server = await preview({
    configFile,
    logLevel: 'warn',
    build: { outDir },
    preview: { port: 0, strictPort: false, host: '127.0.0.1' },
  })
  project.provide('site', server.resolvedUrls!.local[0]!)
  return async () => {
    await server.close()
    await rm(outDir, { recursive: true })
  }
}
