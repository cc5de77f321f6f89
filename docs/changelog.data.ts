import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createMarkdownRenderer } from 'vitepress'

export interface Changes {
  /** What the next release will say, as HTML. */
  readonly coming: string
  /** Each published package's changelog, as HTML; none before the first release. */
  readonly released: readonly { readonly name: string; readonly html: string }[]
}

declare const data: Changes

export { data }

const root = join(import.meta.dirname, '..')

export default {
  async load(): Promise<Changes> {
    const markdown = await createMarkdownRenderer(import.meta.dirname)
    const coming = readdirSync(join(root, '.changeset'))
      .filter((file) => file.endsWith('.md') && file !== 'README.md')
      .map((file) => {
        const [, head, ...text] = readFileSync(join(root, '.changeset', file), 'utf8').split(/^---$/m)
        const names = [...head!.matchAll(/^'@sparse-attention\/(.+)':/gm)].map(([, name]) => name)
        return `- **${names.join(', ')}**: ${text.join('---').trim().replaceAll('\n', '\n  ')}`
      })
    const packages = ['kernels', ...readdirSync(join(root, 'packages')).map((name) => `packages/${name}`)]
    const released = packages
      .map((path) => ({ name: path.split('/').at(-1)!, file: join(root, path, 'CHANGELOG.md') }))
      .filter(({ file }) => existsSync(file))
      .map(({ name, file }) => ({ name, html: markdown.render(readFileSync(file, 'utf8').replace(/^# .*$/m, '')) }))
    return { coming: markdown.render(coming.join('\n')), released }
  },
}
