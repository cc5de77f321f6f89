import { describe, expect, it } from 'vitest'
import type { Passage } from './passage.js'
import { argmax, crossEntropy, scorePassage } from './score.js'

describe('crossEntropy', () => {
  it('is the log of the vocabulary where all are alike', () => {
    expect(crossEntropy(new Float32Array(8).fill(3), 5)).toBeCloseTo(Math.log(8), 12)
  })

  it('stays finite where exp overflows', () => {
    expect(crossEntropy(Float32Array.of(1000, 1001), 0)).toBeCloseTo(Math.log(1 + Math.E), 12)
  })
})

it('argmax takes the first of equals', () => {
  expect(argmax(Float32Array.of(-2, 5, 5, -1))).toBe(1)
})

describe('scorePassage', () => {
  // Ten tokens of a vocabulary of four: held-out text at 5 and 6, a question at 7, the answer "2 1" at 8 and 9.
  const ids = Int32Array.of(0, 1, 2, 3, 1, 2, 3, 0, 2, 1)
  const passage = { ids, heldOut: [5, 6], heldOutBytes: 6, answerStart: 8, logitsToKeep: 6 } as unknown as Passage
  const tokenizer = {
    vocabularySize: 4,
    encode: () => [],
    decode: (all: ArrayLike<number>) => Array.from(all).join(' '),
  }
  /** Logits of positions 4 to 9, each sure of one token. */
  const sureOf = (tokens: number[]) =>
    Float32Array.from(tokens.flatMap((t) => [0, 1, 2, 3].map((i) => (i === t ? 50 : 0))))

  it('reads each token from the logits before it', () => {
    const score = scorePassage(passage, sureOf([2, 3, 0, 2, 1, 0]), tokenizer)
    expect(score.loss).toBeCloseTo(0, 12)
    expect(score.needle).toEqual({ predicted: '2 1', found: true })
  })

  it('counts a wrong held-out token in nats and in bits per byte', () => {
    const score = scorePassage(passage, sureOf([2, 0, 0, 2, 1, 0]), tokenizer)
    expect(score.loss).toBeCloseTo(25, 6)
    expect(score.bitsPerByte).toBeCloseTo(50 / Math.LN2 / 6, 6)
  })

  it('has not found the needle when one token is wrong', () => {
    const score = scorePassage(passage, sureOf([2, 3, 0, 2, 3, 0]), tokenizer)
    expect(score.needle).toEqual({ predicted: '2 3', found: false })
  })
})
