import { halfToFloat } from '@sparse-attention/core'

/** What a token unpacks to: its words and the word of its scale and zero, as the layout says. */
export function unpackKeys(words: ArrayLike<number>, pair: number, bits: 4 | 8): number[] {
  const scale = halfToFloat(pair & 0xffff)
  const zero = halfToFloat(pair >>> 16)
  return unpackIntegers(words, bits).map((n) => zero + scale * n)
}

/** The integers in words, the first one in the lowest bits. */
export function unpackIntegers(words: ArrayLike<number>, bits: 4 | 8): number[] {
  const perWord = 32 / bits
  return Array.from({ length: words.length * perWord }, (_, d) => {
    return (words[Math.floor(d / perWord)]! >>> ((d % perWord) * bits)) & (2 ** bits - 1)
  })
}

/** The integers of one token's keys, for a scale and zero that are known. */
export function quantizeKeysReference(key: readonly number[], scale: number, zero: number, bits: 4 | 8): number[] {
  return key.map((value) => Math.min(2 ** bits - 1, Math.max(0, Math.round((value - zero) / scale))))
}
