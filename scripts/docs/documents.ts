import { readdirSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..', '..')

/** All documents that readers meet: those of the root, of docs/, of the packages and of the apps. */
export function documents(): string[] {
  const skipped = new Set(['node_modules', 'dist', 'cache', 'api'])
  const markdown = (folder: string): string[] =>
    readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return skipped.has(entry.name) || entry.name.startsWith('.') ? [] : markdown(path)
      return entry.name.endsWith('.md') ? [path] : []
    })
  const inRoot = readdirSync(root).filter((name) => name.endsWith('.md'))
  return [...inRoot, ...['docs', 'kernels', 'packages', 'apps'].flatMap(markdown)]
}
