import { expect, it } from 'vitest'
import { TokenTextDecoder } from './token-text-decoder.js'

it('gives a character with the last of its tokens', () => {
  const bytes = [...new TextEncoder().encode('é“a'), 0xff, 0xff, 0xff, 0xff, 0xc3]
  const decode = (ids: ArrayLike<number>) =>
    new TextDecoder().decode(Uint8Array.from(Array.from(ids, (id) => bytes[id]!)))
  const decoder = new TokenTextDecoder({ decode })
  const texts = bytes.map((_, id) => decoder.write(id))
  const bad = '\ufffd'
  expect(texts).toEqual(['', 'é', '', '', '“', 'a', '', '', '', bad.repeat(4), ''])
  expect([decoder.end(), decoder.end()]).toEqual([bad, ''])
})
