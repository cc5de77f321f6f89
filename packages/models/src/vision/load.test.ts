import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import { loadImageClassifier, packageFolder } from '../node/index.js'
import { parseImageClassifierConfig } from './config.js'
import { type ImageClassifierConfig, likeliestClasses, stageOfLayer } from './image-classifier.js'

const shipped = join(packageFolder(), 'checkpoints', 'kestrel-3m')
const text = await readFile(join(shipped, 'config.json'), 'utf8')

describe('loadImageClassifier in Node', () => {
  it('loads what the package ships, within its budget of 3.9 MB, from a path and a file URL too', async () => {
    const { size } = await stat(join(shipped, 'model.onnx'))
    expect(size + text.length).toBeLessThanOrEqual(3.9e6)
    for (const options of [{}, { from: shipped }, { from: pathToFileURL(shipped) }]) {
      const { model, config } = await loadImageClassifier(options)
      expect([model.length, config.classes.length]).toEqual([size, 101])
    }
  })

  it('names what is missing, and rejects with the reason of an aborted signal', async () => {
    const from = join(shipped, 'none')
    await expect(loadImageClassifier({ from })).rejects.toMatchObject({
      code: 'INVALID_FILE',
      where: join(from, 'model.onnx'),
    })
    const reason = new Error('enough')
    await expect(loadImageClassifier({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })
})

describe('parseImageClassifierConfig', () => {
  it('reads the shipped sizes', () => {
    const { classes, ...config } = parseImageClassifierConfig(text)
    expect(config).toEqual({
      imageSize: 160,
      resizeShorter: 176,
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
      stages: [
        { blocks: 2, channels: 32, heads: 1, grid: [40, 40], routing: { regions: 5, topK: 2 } },
        { blocks: 2, channels: 64, heads: 2, grid: [20, 20], routing: { regions: 5, topK: 4 } },
        { blocks: 8, channels: 128, heads: 4, grid: [10, 10], routing: { regions: 5, topK: 8 } },
        { blocks: 2, channels: 256, heads: 8, grid: [5, 5], routing: undefined },
      ],
    })
    expect(classes.slice(0, 3)).toEqual(['Faces', 'Faces_easy', 'Leopards'])
  })

  const [stage] = JSON.parse(text).stages
  it.each<[string, unknown, string?]>([
    ['image_size', 0],
    ['image_size', '160'],
    ['resize_shorter', 159],
    ['image_mean', [0.5, 0.5]],
    ['image_std', [0.2, 0, 0.2]],
    ['classes', []],
    ['classes', ['cat', '']],
    ['stages', [null], 'grid'],
    ['stages', [{ ...stage, grid: [40] }], 'grid'],
    ['stages', [{ ...stage, regions: 41 }], 'regions'],
    ['stages', [{ ...stage, top_k: null }], 'top_k'],
  ])('refuses %s %j', (key, value, named = key) => {
    const changed = JSON.stringify({ ...JSON.parse(text), [key]: value })
    expect(() => parseImageClassifierConfig(changed)).toThrow(
      expect.objectContaining({ code: 'INVALID_FILE', message: expect.stringContaining(`${named} is `) }),
    )
  })
})

const config: ImageClassifierConfig = parseImageClassifierConfig(text)

it('knows the stage of each attention', () => {
  expect(Array.from({ length: 14 }, (_, layer) => stageOfLayer(config, layer).grid[0])).toEqual([
    40, 40, 20, 20, 10, 10, 10, 10, 10, 10, 10, 10, 5, 5,
  ])
  expect(() => stageOfLayer(config, 14)).toThrow(RangeError)
})

it('orders classes by their logits, equal ones as they come, also where exp would overflow', () => {
  const classes = ['ant', 'bass', 'crab']
  const named = (logits: number[], count?: number) => likeliestClasses({ ...config, classes }, logits, count)
  expect(named([1, 1 + Math.log(2), 1]).map(({ name }) => name)).toEqual(['bass', 'ant', 'crab'])
  const [best] = named([2000, 2000 + Math.log(3), 1000], 1)
  // Logits near 2000 are known to 2e-13.
  expect(best!.probability).toBeCloseTo(0.75, 10)
  expect(named([0, 1, 2], 2)).toHaveLength(2)
})
