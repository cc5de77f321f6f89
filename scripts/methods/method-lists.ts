import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { MethodFactory } from '@sparse-attention/core'

const root = join(import.meta.dirname, '..', '..')

/** Packages whose methods are a folder each, with a `method.ts`. */
export const methodPackages = ['prefill', 'decode', 'diffusion', 'vision'] as const

/** Ids of a package's methods: the names of its folders that hold one. */
export function methodFolders(name: string): string[] {
  const source = join(root, 'packages', name, 'src')
  return readdirSync(source)
    .filter((id) => existsSync(join(source, id, 'method.ts')))
    .sort()
}

/** `a-shape` is made by `aShape`. */
export const factoryName = (id: string): string => id.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

const generated = '// Written by `pnpm methods` from the folders beside it.\n'

/** `src/methods.ts` of a package. */
export function methodsModule(ids: readonly string[]): string {
  const imports = ids.map((id) => `import { ${factoryName(id)} } from './${id}/method.js'`)
  const entries = ids.map((id) => `${factoryName(id)} as MethodFactory`)
  // As the formatter writes it: on one line where that has room.
  const oneLine = `export const methods: readonly MethodFactory[] = [${entries.join(', ')}]`
  const lines = `export const methods: readonly MethodFactory[] = [\n${entries.map((entry) => `  ${entry},\n`).join('')}]`
  return `${generated}${["import type { MethodFactory } from '@sparse-attention/core'", ...imports].join('\n')}

/** The methods of this package, for lists that read what a method says of itself. */
${oneLine.length <= 120 ? oneLine : lines}
`
}

/** Names of all folders of a package that export something: its methods, and what else it has. */
export function exportingFolders(name: string): string[] {
  const source = join(root, 'packages', name, 'src')
  return readdirSync(source).filter((folder) => existsSync(join(source, folder, 'index.ts')))
}

/** `src/index.ts` of a package. */
export function indexModule(folders: readonly string[]): string {
  const exports = [
    ...folders.map((folder) => [folder, `export * from './${folder}/index.js'`]),
    ['methods', "export { methods } from './methods.js'"],
  ]
  return `${generated}${exports
    .sort(([a], [b]) => (a! < b! ? -1 : 1))
    .map(([, line]) => line)
    .join('\n')}
`
}

/**
 * The table of methods between a README's two markers, from what the methods say of themselves.
 *
 * @param docs  where the README links to `docs/methods`: relative, or on the web for a package that is published
 */
export function withMethodTable(readme: string, methods: readonly MethodFactory[], docs: string): string {
  const rows = methods.map(({ definition: { id, phase, citation, capabilities, summary } }) => {
    const page = existsSync(join(root, 'docs/methods', `${id}.md`)) ? `[\`${id}\`](${docs}/${id}.md)` : `\`${id}\``
    const paper = `${citation.authors.split(',')[0]} ${citation.year}, [${citation.arxiv ?? 'paper'}](${citation.url})`
    const takes = (causal: boolean) => (capabilities.causal.includes(causal) ? 'yes' : 'no')
    return `| ${page} | ${phase} | ${summary} | ${paper} | ${takes(true)} | ${takes(false)} |`
  })
  const table = ['| Method | Phase | | Paper | Causal | Not causal |', '|---|---|---|---|---|---|', ...rows].join('\n')
  const [start, end] = ['<!-- methods: written by `pnpm methods` -->\n', '<!-- /methods -->']
  const [before, rest] = readme.split(start)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined)
    throw new Error('a README has lost the markers of its table of methods')
  return `${before}${start}\n${table}\n\n${end}${after}`
}
