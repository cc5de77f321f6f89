import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { listTokens } from '../list-tokens/list-tokens.js'
import { listTokensReference } from '../list-tokens/reference.js'
import { testMemory } from '../shared/test-memory.js'
import { testPageFrame, testPages } from '../shared/test-pages.js'
import { pruneTopP } from './prune-top-p.js'
import { pruneTopPReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const pageSize = 16
const group = 2

/** Which tokens of the listed pages each query head keeps, and the tokens that its KV head then lists. */
async function prune(
  lengths: readonly number[],
  pagesOf: readonly number[][],
  scores: readonly number[][],
  p: readonly number[],
) {
  using memory = testMemory(runtime)
  const pages = testPages(memory, lengths, pageSize)
  const capacity = Math.max(...pagesOf.map(({ length }) => length)) + 1
  const padded = <T>(row: readonly T[], length: number, value: T) => [
    ...row,
    ...new Array<T>(length - row.length).fill(value),
  ]
  const lists = {
    heads: 1,
    capacity,
    counts: memory.words(Int32Array.from(pagesOf, ({ length }) => length)),
    indices: memory.words(
      Int32Array.from(
        pagesOf.flatMap((row) =>
          padded(
            row.map((n) => n * pageSize),
            capacity,
            -1,
          ),
        ),
      ),
    ),
  }
  const tokens = capacity * pageSize
  const words = Math.ceil(tokens / 32)
  const rows = scores.length
  const cells = memory.words(Float32Array.from(scores.flatMap((row) => padded(row, tokens, 1e30))))
  const bits = memory.scratch(rows * words * 4)
  const frame = testPageFrame(memory, {
    batch: lengths.length,
    keyLength: Math.max(...lengths),
    queryHeads: group,
    kvHeads: 1,
  })
  const [select, list] = await Promise.all([pruneTopP(runtime, 1), listTokens(runtime)])
  const table = memory.words(Float32Array.from(p))
  const listed = list(frame, pages, lists, bits)
  await memory.submit([select(frame, pages, lists, cells, table, 0, bits), listed.dispatch])
  const [found, counts, indices] = [
    await memory.read(bits),
    await memory.read(listed.lists.counts),
    new Int32Array((await memory.read(listed.lists.indices)).buffer),
  ]
  const keeps = (row: number, n: number) => ((found[row * words + (n >> 5)]! >>> (n & 31)) & 1) === 1
  const ends = lengths.map((length, b) => (pagesOf[b]!.length - 1) * pageSize + ((length - 1) % pageSize) + 1)
  for (const [b, row] of pagesOf.entries()) {
    const own = Array.from(indices.subarray(b * tokens, b * tokens + counts[b]!))
    const heads = Array.from({ length: group }, (_, h) => (n: number) => n < ends[b]! && keeps(b * group + h, n))
    expect(own).toEqual(
      listTokensReference(
        row.map((n) => n * pageSize),
        pageSize,
        heads,
      ),
    )
    expect(indices.subarray(b * tokens + counts[b]!, (b + 1) * tokens).every((token) => token === -1)).toBe(true)
  }
  return scores.map((_, row) => Array.from({ length: ends[Math.floor(row / group)]! }, (__, n) => keeps(row, n)))
}

/** Scores of each kind, f32. */
const random = createRandom(3)
const kinds: Record<string, (n: number) => number> = {
  gaussian: () => 3 * random.gaussian(),
  flat: () => 1.5,
  'one high': (n) => (n === 37 ? 30 : random.gaussian()),
  'a heavy tail': (n) => (n === 40 ? 9 : 0.001 * (n % 7)),
  'far below': (n) => (n === 20 ? 200 : -200),
  'partly NaN': (n) => (n % 5 === 0 ? Number.NaN : random.gaussian()),
}

describe('prune top-p', () => {
  const lengths = [1, 40, 250]
  const pagesOf = [[0], [0, 1, 2], [0, 2, 3, 7, 15]]
  const ends = [1, 40, 74]

  test.each(Object.keys(kinds))('%s scores: the reference, and never less than p of the mass', async (kind) => {
    const scores = ends.flatMap((end) =>
      [0, 1].map(() => Array.from({ length: end }, (_, n) => Math.fround(kinds[kind]!(n)))),
    )
    for (const p of [
      [0.5, 0.9],
      [0, 1],
      [0.99, 0.999],
    ]) {
      const kept = await prune(lengths, pagesOf, scores, p)
      for (const [row, keeps] of kept.entries()) {
        const end = scores[row]!.length
        const isForced = (n: number) => n < pageSize || n === end - 1
        const share = p[row % group]!
        const reference = pruneTopPReference(scores[row]!, share, isForced)
        const total = reference.weights.reduce((a, b) => a + b, 0)
        const mass = reference.weights.reduce((sum, w, n) => sum + (keeps[n] ? w : 0), 0)
        expect(mass, `row ${row}, p ${share}`).toBeGreaterThanOrEqual(Math.min(share, 1 - 1e-12) * total)
        // Closer than a rounding of a weight both are right, as the mass above says.
        if (reference.gap > 1e-5) expect(keeps, `row ${row}, p ${share}`).toEqual(reference.kept)
      }
    }
  })

  test('lists longer than a workgroup takes at a time, of several workgroups of tokens', async () => {
    const count = 600
    const length = count * pageSize - 3
    const pages = Array.from({ length: count }, (_, n) => n)
    const scores = [0, 1].map(() => Array.from({ length }, () => Math.fround(2 * random.gaussian())))
    const kept = await prune([length], [pages], scores, [0.7, 0.95])
    for (const [row, keeps] of kept.entries()) {
      const reference = pruneTopPReference(scores[row]!, [0.7, 0.95][row]!, (n) => n < pageSize || n === length - 1)
      const differ = keeps.reduce((sum, kept, n) => sum + Number(kept !== reference.kept[n]), 0)
      const number = reference.kept.filter(Boolean).length
      // One weight in 10 000 is as large as the rounding of a sum of them all: the cut may lie a few tokens further on.
      expect(differ).toBeLessThanOrEqual(number / 1000)
      expect(keeps.filter(Boolean).length).toBeGreaterThanOrEqual(number - 1)
    }
  })
})
