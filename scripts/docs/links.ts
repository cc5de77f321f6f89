import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const root = join(import.meta.dirname, '..', '..')

/** A document without its code, in which `](` and `#` mean something else; what stands in single backticks stays. */
const withoutFences = (text: string) => text.replace(/^( *)(`{3,})[\s\S]*?^\1\2$/gm, '')

/**
 * Names of the places in a document, as GitHub makes them: headings in small letters, hyphens for spaces, no other signs, and a number
 * where one comes again; and those that it names itself.
 */
export function anchorsOf(text: string): ReadonlySet<string> {
  const names = new Set<string>()
  const prose = withoutFences(text)
  for (const [, heading] of prose.matchAll(/^#{1,6} +(.+?) *#*$/gm)) {
    const words = heading!.replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
    const name = words.replace(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '').replaceAll(' ', '-')
    let unique = name
    for (let again = 1; names.has(unique); again++) unique = `${name}-${again}`
    names.add(unique)
  }
  for (const [, name] of prose.matchAll(/<[a-z]+ (?:id|name)="([^"]+)"/g)) names.add(name!)
  return names
}

/** Relative links of a document to files that are not there, or to places that a document does not have, as `document: link`. */
export function deadLinks(document: string, text: string): string[] {
  const links = [...withoutFences(text).matchAll(/\]\(([^)\s]+)\)|<(?:a|img) [^>]*?(?:href|src)="([^"]+)"/g)]
  return links
    .map(([, markdown, html]) => markdown ?? html!)
    .filter((link) => !/^[a-z]+:/.test(link) && !leadsSomewhere(link, document, text))
    .map((link) => `${document}: ${link}`)
}

function leadsSomewhere(link: string, document: string, text: string): boolean {
  const [path, anchor] = link.split('#') as [string, string?]
  const file = path === '' ? document : join(dirname(document), decodeURI(path))
  // Pages that are written when the site is built are checked there.
  if (file.startsWith('docs/api/')) return true
  if (file !== document && !existsSync(join(root, file))) return false
  if (anchor === undefined || !file.endsWith('.md')) return true
  return anchorsOf(file === document ? text : readFileSync(join(root, file), 'utf8')).has(decodeURIComponent(anchor))
}
