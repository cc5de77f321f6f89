import { describe, expect, it } from 'vitest'
import { assembleVideoModel } from '../loading/assemble.js'
import { parseVideoModelConfig } from './config.js'
import { describeScene, nullScene, parseScene, randomScene, sceneWords } from './scene.js'
import { videoOf } from './video.js'
import { rotaryTables, samplingShift } from './video-model.js'

const configJson = {
  num_hidden_layers: 8,
  num_attention_heads: 4,
  head_dim: 12,
  default_grid: [8, 32, 32],
  rope: { time: [0.5, 2], height: [1, 3], width: [0.25, 4] },
  sampling: { steps: 30, guidance: 2, shift_base: 1.5, shift_power: 0.5 },
}
const config = parseVideoModelConfig(JSON.stringify(configJson))
const refused = (fields: object): unknown => expect.objectContaining({ name: 'SparseAttentionError', ...fields })

describe('parseVideoModelConfig', () => {
  it('reads what one needs to run the model', () => {
    expect(config).toEqual({
      layers: 8,
      heads: 4,
      headDim: 12,
      defaultGrid: [8, 32, 32],
      rope: configJson.rope,
      sampling: { steps: 30, guidance: 2, shiftBase: 1.5, shiftPower: 0.5 },
    })
  })

  it.each<[string, object]>([
    ['num_hidden_layers', { num_hidden_layers: 0 }],
    ['default_grid', { default_grid: [8, 32] }],
    ['sampling', { sampling: undefined }],
    ['default_grid', { default_grid: [8, 32, 1e9] }],
    ['sampling.guidance', { sampling: { ...configJson.sampling, guidance: 'much' } }],
    ['sampling.guidance', { sampling: { ...configJson.sampling, guidance: 1e300 } }],
    ['sampling.shift_base', { sampling: { ...configJson.sampling, shift_base: 0 } }],
    ['sampling.shift_power', { sampling: { ...configJson.sampling, shift_power: null } }],
    ['steps', { sampling: { ...configJson.sampling, steps: 2.5 } }],
    ['rope', { rope: undefined }],
    ['rope.time', { rope: { ...configJson.rope, time: [1, 2, 3] } }],
    ['rope.height', { rope: { ...configJson.rope, height: [1, '2'] } }],
    ['rope', { head_dim: 64 }],
  ])('refuses another %s', (key, change) => {
    const text = JSON.stringify({ ...configJson, ...change })
    expect(() => parseVideoModelConfig(text)).toThrow(
      refused({ code: 'INVALID_FILE', message: expect.stringContaining(`config.json: ${key} is`) }),
    )
  })

  it('is not asked where the graph is none', () => {
    const files = { 'model.onnx': new Uint8Array(9), 'config.json': new Uint8Array() }
    expect(() => assembleVideoModel(files)).toThrow(refused({ code: 'INVALID_FILE', where: 'model.onnx' }))
  })
})

describe('rotaryTables', () => {
  it('have fine angles by index and coarse ones by share of the axis, of time, height and width', () => {
    const { cos, sin, angles } = rotaryTables(config, [2, 1, 4])
    expect([angles, cos.length]).toEqual([6, 8 * 6])
    // Token 6: frame 1 of 2, row 0 of 1, column 2 of 4.
    const expected = [0.5 * 1, 2 * (1.5 / 2), 1 * 0, 3 * 0.5, 0.25 * 2, 4 * (2.5 / 4)]
    expect([...cos.subarray(36, 42)]).toEqual(expected.map((angle) => Math.fround(Math.cos(angle))))
    expect([...sin.subarray(36, 42)]).toEqual(expected.map((angle) => Math.fround(Math.sin(angle))))
  })
})

it('samplingShift grows with the number of tokens', () => {
  expect(samplingShift(config, [4, 8, 8])).toBe(1.5)
  expect(samplingShift(config, [4, 16, 16])).toBe(3)
})

describe('videoOf', () => {
  it('lays patches out as frames, and −1 to 1 onto 0 to 1, clamped', () => {
    // A grid of 2 tokens: 2 frames of 2 × 4 pixels. A value says which token, frame, row, column and colour it is of.
    const latents = Float32Array.from({ length: 48 }, (_, i) => (i - 24) / 20)
    const { frames, height, width, pixels } = videoOf(latents, [1, 1, 2])
    expect([frames, height, width]).toEqual([2, 2, 4])
    const at = (f: number, y: number, x: number, c: number) => pixels[((f * 2 + y) * 4 + x) * 3 + c]!
    const value = (token: number, f: number, y: number, x: number, c: number) =>
      (latents[token * 24 + ((f * 2 + y) * 2 + x) * 3 + c]! + 1) / 2
    expect(at(0, 1, 1, 2)).toBeCloseTo(value(0, 0, 1, 1, 2), 7)
    expect(at(0, 1, 2, 0)).toBeCloseTo(value(1, 0, 1, 0, 0), 7)
    expect(at(1, 0, 2, 1)).toBeCloseTo(value(1, 1, 0, 0, 1), 7)
    expect([at(0, 0, 0, 0), at(1, 1, 3, 2)]).toEqual([0, 1])
    expect(() => videoOf(latents, [1, 1, 1])).toThrow(refused({ code: 'INVALID_SHAPE', where: 'latents' }))
  })
})

describe('scenes', () => {
  it('are named and read in words', () => {
    expect(parseScene('red circle down left')).toEqual([0, 0, 3])
    expect(parseScene('Cross, cyan, up-right')).toEqual([3, 5, 7])
    expect(describeScene([2, 3, 6])).toBe('yellow triangle up')
    expect(nullScene).toEqual([4, 6, 8])
    for (let seed = 0; seed < 20; seed++)
      expect(parseScene(describeScene(randomScene(seed)))).toEqual(randomScene(seed))
    expect(new Set(Array.from({ length: 20 }, (_, seed) => describeScene(randomScene(seed)))).size).toBeGreaterThan(10)
  })

  it.each(['', 'red circle', 'red circle sideways', 'red blue circle up'])("refuse '%s'", (text) => {
    const { directions } = sceneWords
    expect(() => parseScene(text)).toThrow(
      refused({ code: 'INVALID_ARGUMENT', where: 'scene', fix: expect.stringContaining(directions.join(', ')) }),
    )
  })
})
