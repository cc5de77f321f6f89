import { describe, expect, it } from 'vitest'
import { parseLanguageModelConfig } from './config.js'
import { configText } from './fixtures/load.js'

describe('parseLanguageModelConfig', () => {
  it('reads the shipped sizes', () => {
    expect(parseLanguageModelConfig(configText)).toEqual({
      vocabularySize: 4096,
      hiddenSize: 320,
      layers: 8,
      queryHeads: 6,
      kvHeads: 2,
      headDim: 64,
      intermediateSize: 704,
      ropeTheta: 500_000,
      rmsNormEpsilon: 1e-5,
      maxLength: 16_384,
      bos: 0,
    })
  })

  it.each([
    ['head_dim', undefined],
    ['head_dim', '64'],
    ['head_dim', 0],
    ['num_hidden_layers', 1.5],
    ['num_hidden_layers', 1e12],
    ['num_key_value_heads', 4],
    ['rope_theta', -1],
    ['bos_token_id', 4096],
  ])('refuses %s %s', (key, value) => {
    const text = JSON.stringify({ ...JSON.parse(configText), [key]: value })
    expect(() => parseLanguageModelConfig(text)).toThrow(
      expect.objectContaining({ code: 'INVALID_FILE', message: expect.stringContaining(key) }),
    )
  })

  it.each(['', '{', 'null', '[]', '7'])('refuses %j', (text) => {
    expect(() => parseLanguageModelConfig(text)).toThrow(expect.objectContaining({ code: 'INVALID_FILE' }))
  })
})
