import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import * as site from '../../docs/.vitepress/built-links.js'
import { documents } from './documents.js'
import { anchorsOf, deadLinks } from './links.js'

const root = join(import.meta.dirname, '..', '..')

test('links of all documents lead to files, and to headings that they have', () => {
  const texts = documents().map((document) => [document, readFileSync(join(root, document), 'utf8')] as const)
  expect(texts.flatMap(([document, text]) => deadLinks(document, text))).toEqual([])
  const anchored = texts.filter(([, text]) => /\]\([^):]*#/.test(text))
  expect(anchored.length).toBeGreaterThan(10)
})

test('a link to what is not there is found', () => {
  const text = '# A `b`: c, 1.5×\n\n## Same\n\n## Same\n\n```md\n# Not a heading\n```\n\n<a id="own"></a>\n'
  expect([...anchorsOf(text)]).toEqual(['a-b-c-15', 'same', 'same-1', 'own'])
  const links = [
    '#same-1',
    '#not-a-heading',
    'missing.md',
    '../README.md#two-commands',
    '../README.md#three',
    'cli.md#x',
  ]
  const page = `${text}${links.map((link) => `[x](${link})`).join(' ')} [y](https://example.com/#z) <img src="no.webp">`
  expect(deadLinks('docs/x.md', page)).toEqual(
    ['#not-a-heading', 'missing.md', '../README.md#three', 'cli.md#x', 'no.webp'].map((link) => `docs/x.md: ${link}`),
  )
})

test('so is one of the built site', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sparse-attention-site-'))
  try {
    await mkdir(join(folder, 'guide'))
    const links = ['x', './x#there', 'x#gone', '../', '/base/guide/x.html', 'y', '/elsewhere', 'https://example.com/#z']
    const page = `<h1 id="there"></h1>${links.map((link) => `<a class="a" href="${link}">`).join('')}<img src="no.webp">`
    await writeFile(join(folder, 'index.html'), '<a href="/base/guide/x#there">')
    await writeFile(join(folder, 'guide', 'x.html'), page)
    const dead = ['x#gone', 'y', '/elsewhere', 'no.webp'].map((link) => `guide/x.html: ${link}`)
    expect(site.deadLinks(folder, '/base/')).toEqual(dead)
  } finally {
    await rm(folder, { recursive: true })
  }
})
