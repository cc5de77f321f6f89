import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const require: NodeJS.Require = createRequire(import.meta.url)

/** Where this package lies. */
export const packageFolder: string = dirname(require.resolve('../package.json'))

/** Version of this package. The path is right from `src` and from `dist`. */
export const cliVersion: string = (require('../package.json') as { version: string }).version

/** What a demo ran on: Node, this package, and those named, in words. */
export function versionsOf(...packages: readonly string[]): Record<string, string> {
  return {
    node: process.versions.node,
    '@sparse-attention/cli': cliVersion,
    ...Object.fromEntries(packages.map((name) => [name, installedVersion(name) ?? 'not found'])),
  }
}

/** Version of an installed package, without loading it; undefined when there is none. */
export function installedVersion(name: string): string | undefined {
  for (const folder of require.resolve.paths(name) ?? []) {
    try {
      const manifest: unknown = JSON.parse(readFileSync(join(folder, name, 'package.json'), 'utf8'))
      return (manifest as { version?: string }).version
    } catch {
      // not here: look in the next folder up, as Node does
    }
  }
  return undefined
}
