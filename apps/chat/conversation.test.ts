import { dense } from '@sparse-attention/kernels'
import type { GenerateOptions, ModelCache } from '@sparse-attention/onnxruntime'
import { expect, test } from 'vitest'
import { agreement, agreementSteps, Pane, type PaneToken, type TurnOptions } from './conversation.js'

/** As `ModelCache` counts: tokens that were read, by what attention. */
class FakeCache {
  readonly capacity = 100
  read: string[] = []
  get length() {
    return this.read.length
  }
  truncate(length: number) {
    this.read.length = length
  }
  dispose() {}
}

const exact = { prefill: dense(), decode: dense({ kernel: 'split' }) }
const other = { prefill: dense(), decode: dense({ kernel: 'split' }) }

/** Writes the sum of the last two tokens, modulo 10; `other` adds one where that sum is a multiple of 5. */
function fakePane(failAfter = Number.POSITIVE_INFINITY) {
  const cache = new FakeCache()
  const model = {
    async *generate(prompt: ArrayLike<number>, { maxNewTokens = 0, attention }: GenerateOptions) {
      let unread = Array.from(prompt)
      for (let i = 0; i < maxNewTokens; i++) {
        if (cache.length + unread.length > failAfter) throw new Error('cancelled')
        const name = attention === other ? 'other' : 'exact'
        cache.read.push(...unread.map((token) => `${token} ${unread.length > 1 ? 'prompt' : name}`))
        const [a = 0, b = 0] = cache.read.slice(-2).map((entry) => Number.parseInt(entry, 10))
        const token = (a + b + (attention === other && (a + b) % 5 === 0 ? 1 : 0)) % 10
        unread = [token]
        yield { token, logProbability: 0 }
      }
    },
  }
  const tokenizer = {
    vocabularySize: 10,
    encode: () => [],
    decode: (ids: ArrayLike<number>) => Array.from(ids).join(''),
  }
  return { cache, pane: new Pane(model as never, tokenizer, cache as unknown as ModelCache) }
}

const options = (more: Partial<TurnOptions> = {}): TurnOptions => ({
  attention: exact,
  sampling: { seed: 0 },
  maxNewTokens: 6,
  statisticsEvery: 0,
  statisticsFrom: 0,
  signal: new AbortController().signal,
  onToken: () => {},
  ...more,
})
const ids = (written: readonly PaneToken[]) => written.map(({ token }) => token)

test('a turn goes on from what was read, and stops behind a text', async () => {
  const { pane } = fakePane()
  const first = await pane.turn([1, 1], options())
  expect([ids(first.written), first.read, first.reused]).toEqual([[2, 3, 5, 8, 3, 1], 2, 0])
  const second = await pane.turn([4], options({ stopAt: '95' }))
  // The last token of before, and the new one; 4, 5, 9, 4.
  expect([ids(second.written), second.read, second.reused]).toEqual([[5, 9, 4, 3, 7, 0], 2, 7])
  expect((await pane.turn([], options({ stopAt: '77' }))).written.length).toBeLessThan(6)
})

test('a turn that fails keeps what was written, and the next one reads the rest', async () => {
  const { pane, cache } = fakePane(3)
  const told: number[] = []
  await expect(pane.turn([1, 1], options({ onToken: ({ token }) => told.push(token) }))).rejects.toThrow('cancelled')
  expect([told, pane.tokens, cache.length]).toEqual([[2, 3], [1, 1, 2, 3], 3])
})

test('agreement follows the dense text behind the first difference, and the pane goes on as if nothing had been', async () => {
  const denseText = ids((await fakePane().pane.turn([1, 1], options())).written)
  const alone = fakePane()
  const compared = fakePane()
  const sparse = options({ attention: other })
  const sparseText = ids((await compared.pane.turn([1, 1], sparse)).written)
  await alone.pane.turn([1, 1], sparse)
  // 2 + 3 is a multiple of 5: 6 in place of 5, and no other sum of the dense text is one.
  expect(sparseText.slice(0, 3)).toEqual([2, 3, 6])
  let steps = 0
  const found = await agreement(compared.pane, denseText, sparseText, other, sparse.signal, () => steps++)
  expect(found).toEqual({ samePrefix: 2, same: 5, of: 6 })
  expect(steps).toBe(agreementSteps(denseText, sparseText))
  const [a, b] = [await alone.pane.turn([4], sparse), await compared.pane.turn([4], sparse)]
  expect(b).toEqual({ ...a, written: b.written })
  expect(ids(b.written)).toEqual(ids(a.written))
  expect(compared.cache.read).toEqual(alone.cache.read)
})

test('texts that are equal need nothing to be computed', async () => {
  const { pane } = fakePane()
  const { signal } = options()
  expect(await agreement(pane, [1, 2], [1, 2], other, signal, () => {})).toEqual({ samePrefix: 2, same: 2, of: 2 })
})
