import { expect, test } from 'vitest'
import { saysTheSame, sizeTable, withTable } from './sizes.mjs'

const manifest = { name: '@sparse-attention/x', version: '0.0.0', description: 'A package' }
const others = [
  { name: '@sparse-attention/core', bytes: 0 },
  { name: 'sharp', bytes: 20_400_000 },
]
const table = (tarball: number) => sizeTable([{ manifest, sizes: { tarball, bundle: 31_400 }, others }])

test('a table of sizes is right while sizes are within a tenth, and everything else is the same', () => {
  expect(table(149_600)).toContain('| `x` | A package | 150 kB | 31 kB | 1 of ours, 1 other, 20 MB | – |')
  const page = withTable(
    '# Page\n\n<!-- sizes: written by `pnpm packages --write` -->\nold\n<!-- /sizes -->\n\nEnd\n',
    table(150_000),
  )
  expect(page).toMatch(/^# Page\n[\s\S]*150 kB[\s\S]*\nEnd\n$/)
  expect(page).not.toContain('old')
  expect(saysTheSame(page, table(140_000))).toBe(true)
  expect(saysTheSame(page, table(170_000))).toBe(false)
  const more = sizeTable([{ manifest, sizes: { tarball: 150_000, bundle: 31_400 }, others: [...others, others[1]!] }])
  expect(saysTheSame(page, more)).toBe(false)
  const peers = { ...manifest, peerDependencies: { vitest: '>=3' } }
  expect(saysTheSame(page, sizeTable([{ manifest: peers, sizes: { tarball: 150_000, bundle: 31_400 }, others }]))).toBe(
    false,
  )
  expect(saysTheSame('no table', table(150_000))).toBe(false)
})
