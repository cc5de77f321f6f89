import { describe, expect, test } from 'vitest'
import { documents } from './documents.js'
import { allSnippets, checkSnippets, snippetsOf } from './snippets.js'

describe('snippets', () => {
  test('of all documents pass the type checker', { timeout: 240_000 }, () => {
    const snippets = allSnippets()
    expect(documents()).toEqual(expect.arrayContaining(['README.md', 'docs/tuning.md', 'packages/core/README.md']))
    expect(snippets.length).toBeGreaterThan(15)
    // One more that is wrong, so that a checker which finds nothing is noticed.
    const wrong = { document: 'docs/wrong.md', line: 3, language: 'ts', code: 'const length: number = "12"' } as const
    expect(checkSnippets([...snippets, wrong])).toEqual([
      "docs/wrong.md:3 Type 'string' is not assignable to type 'number'.",
    ])
  })

  test('take what is given above them, and continue where they say so', () => {
    const page = [
      '# Page',
      '<!-- given',
      'declare const a: number',
      '-->',
      '',
      '```ts',
      'const b = a',
      '```',
      '```sh',
      'rm',
      '```',
      '<!-- continues -->',
      '```tsx',
      'b.toFixed()',
      '```',
    ].join('\n')
    expect(snippetsOf('page.md', page)).toEqual([
      { document: 'page.md', line: 6, language: 'ts', code: 'declare const a: number\nconst b = a\n' },
      {
        document: 'page.md',
        line: 13,
        language: 'tsx',
        code: 'declare const a: number\nconst b = a\n\nb.toFixed()\n',
      },
    ])
    expect(() => snippetsOf('page.md', '<!-- continues -->\n```ts\n```')).toThrow('page.md:2 continues nothing')
  })
})
