import { existsSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

const docs = join(import.meta.dirname, '..')
const root = join(docs, '..')
const repository = 'https://github.com/sparse-attention/sparse-attention'

/**
 * Pages are read on the site and in the repository. A link that leads out of docs/, or to a file that is no page, goes to the
 * repository from the site; one to a file that is not there is an error.
 *
 * @param page  path of the page, relative to docs/
 */
export function siteLink(href: string, page: string): string {
  if (/^(?:[a-z]+:|#|\/)/.test(href)) return href
  const [path, anchor] = href.split('#') as [string, string?]
  const target = join(docs, dirname(page), decodeURI(path))
  const inside = relative(docs, target)
  // Links between pages are VitePress's to check, also those without their ending.
  const page_ = !inside.startsWith('..') && (inside.endsWith('.md') || !existsSync(target))
  // A README is its folder's page, which VitePress knows of the page and not of links to it.
  if (page_) return href.replace(/(^|\/)README\.md(?=#|$)/, '$1index.md')
  if (!existsSync(target)) throw new Error(`${page} links to ${href}, which is not there`)
  const kind = statSync(target).isDirectory() ? 'tree' : 'blob'
  return `${repository}/${kind}/main/${relative(root, target)}${anchor === undefined ? '' : `#${anchor}`}`
}
