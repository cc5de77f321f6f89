import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Links of the built site that lead to a page, a file or a place in a page that is not there, as `page: link`. VitePress itself looks
 * whether pages are there before it writes them, not at what links became, and not whether there is such a heading.
 *
 * @param folder  of the built site
 * @param base    where the site lies on its host, with slashes
 */
export function deadLinks(folder: string, base: string): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => file.replaceAll('\\', '/'))
  const pages = files.filter((file) => file.endsWith('.html'))
  const html = new Map(pages.map((page) => [page, readFileSync(join(folder, page), 'utf8')]))
  const ids = new Map<string, ReadonlySet<string>>()
  for (const [page, text] of html) ids.set(page, new Set([...text.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id!)))
  const dead = new Set<string>()
  for (const [page, text] of html)
    for (const [, link] of text.matchAll(/<(?:a|img) [^>]*?(?:href|src)="([^"]+)"/g)) {
      const { origin, pathname, hash } = new URL(link!.replaceAll('&amp;', '&'), `http://site${base}${page}`)
      if (origin !== 'http://site') continue
      const path = decodeURI(pathname).slice(base.length)
      const target = path === '' || path.endsWith('/') ? `${path}index.html` : html.has(path) ? path : `${path}.html`
      const there = pathname.startsWith(base) && (html.has(target) || existsSync(join(folder, path)))
      if (!there || (hash !== '' && !ids.get(target)?.has(decodeURIComponent(hash.slice(1)))))
        dead.add(`${page}: ${link}`)
    }
  return [...dead]
}
