import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { siteLink } from '../../docs/.vitepress/links.js'

const root = join(import.meta.dirname, '..', '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')

test('the page of errors has a row for every code, and no other', () => {
  const union = /export type ErrorCode =\n((?: {2}\| '\w+'\n)+)/.exec(read('packages/core/src/errors.ts'))![1]!
  const codes = [...union.matchAll(/'(\w+)'/g)].map(([, code]) => code)
  const rows = [...read('docs/guide/errors.md').matchAll(/^\| `(\w+)` /gm)].map(([, code]) => code)
  expect(codes.length).toBeGreaterThan(10)
  expect(rows).toEqual(codes)
})

test('every example of the guide stands on a page, and is run by a test', () => {
  const folder = 'docs/examples'
  const files = readdirSync(join(root, folder))
  const pages = readdirSync(join(root, 'docs/guide'))
    .map((page) => read(`docs/guide/${page}`))
    .join('\n')
  const tests = files
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => read(`${folder}/${file}`))
    .join('\n')
  const examples = files.filter((file) => !file.endsWith('.test.ts'))
  expect(examples.length).toBeGreaterThan(5)
  for (const file of examples) {
    expect(pages, file).toContain(`<<< ../examples/${file}`)
    expect(tests, file).toContain(`'./${file.replace(/\.ts$/, '.js')}'`)
  }
})

test('links that leave the site lead to the repository', () => {
  const repository = 'https://github.com/sparse-attention/sparse-attention'
  expect(siteLink('../../packages/core/src/plan.ts', 'guide/x.md')).toBe(
    `${repository}/blob/main/packages/core/src/plan.ts`,
  )
  expect(siteLink('../kernels/src/dense#top', 'primitives.md')).toBe(`${repository}/tree/main/kernels/src/dense#top`)
  expect(siteLink('../CONTRIBUTING.md#rules', 'x.md')).toBe(`${repository}/blob/main/CONTRIBUTING.md#rules`)
  expect(siteLink('benchmarks/2026-11-22-h100/table.json', 'x.md')).toContain('/blob/main/docs/benchmarks/')
  expect(siteLink('../benchmarks/README.md#the-table', 'guide/x.md')).toBe('../benchmarks/index.md#the-table')
  // Pages are VitePress's to check.
  for (const link of ['../methods/dense.md', 'missing.md', 'browser', '#here', 'https://example.com', '/api/'])
    expect(siteLink(link, 'guide/x.md')).toBe(link)
  expect(() => siteLink('../kernels/missing', 'x.md')).toThrow('x.md links to ../kernels/missing, which is not there')
})
